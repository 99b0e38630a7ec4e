//! Computing the numbers of a page with the engine, in f64.

use geartrain_engine::{DType, Graph, Init, Options, Program, Shape, State, Tensor, Var};
use std::sync::Arc;

use super::{LessonError, Page};

/// Values of a graph that ran once.
pub struct Values {
    program: Program,
}

/// Runs a graph once from its initial values.
///
/// # Errors
/// All errors of the graph; a number that is not finite.
pub fn values(g: &Graph, page: &Page) -> Result<Values, LessonError> {
    let mut state = State::new(g, 0)?;
    let mut program = compile(g, &state, page)?;
    let batch = program.batch();
    program.run(&mut state, &batch)?;
    Ok(Values { program })
}

/// Compiles a graph for the threads of a page.
///
/// # Errors
/// All errors of the graph.
pub fn compile(g: &Graph, state: &State, page: &Page) -> Result<Program, LessonError> {
    Ok(Program::compile(g, state, Options { threads: page.threads(), ..Options::default() })?)
}

impl Values {
    /// The elements of an output, row by row.
    ///
    /// # Errors
    /// There is no such output.
    pub fn list(&self, output: &str) -> Result<Vec<f64>, LessonError> {
        let missing = || LessonError::Missing(output.to_string());
        self.program.tensor(output).map(|tensor| tensor.to_f64()).ok_or_else(missing)
    }

    /// An output that has one element.
    ///
    /// # Errors
    /// There is no such output.
    pub fn number(&self, output: &str) -> Result<f64, LessonError> {
        self.program.scalar(output).ok_or_else(|| LessonError::Missing(output.to_string()))
    }
}

/// Values that the graph starts from and may be differentiated by: a parameter of this shape.
pub fn given<'g>(g: &'g Graph, name: &str, shape: impl Into<Shape>, values: &[f64]) -> Var<'g> {
    let shape = shape.into();
    match Tensor::from_f64(DType::F64, shape, values) {
        Some(tensor) => g.parameter(name, DType::F64, shape, Init::Values(Arc::new(tensor))),
        None => g.fail("given", geartrain_engine::Rule::new("number of values and shape differ"), vec![]),
    }
}

/// Values that are known and stay as they are.
pub fn known<'g>(g: &'g Graph, dtype: DType, shape: impl Into<Shape>, values: &[f64]) -> Var<'g> {
    match Tensor::from_f64(dtype, shape, values) {
        Some(tensor) => g.constant(tensor),
        None => g.fail("constant", geartrain_engine::Rule::new("number of values and shape differ"), vec![]),
    }
}

/// `n` numbers from `first` to `last`, at equal distances.
pub fn between(first: f64, last: f64, n: usize) -> Vec<f64> {
    (0..n).map(|i| first + (last - first) * i as f64 / (n.max(2) - 1) as f64).collect()
}
