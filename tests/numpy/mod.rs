//! Evaluates the expressions of a listing as NumPy would, in f64: written apart from the engine, so that it can check it.

use std::collections::HashMap;

/// An array of at most two axes, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Vec<f64>,
}

/// Names and their values.
pub type Names = HashMap<String, Array>;

/// The value of an expression.
pub fn eval(text: &str, names: &Names) -> Result<Array, String> {
    let mut parser = Parser { text, names };
    let value = parser.sum()?;
    match parser.text.trim() {
        "" => Ok(value),
        rest => Err(format!("`{rest}` is left over")),
    }
}

impl Array {
    /// An array with no axes.
    pub fn scalar(value: f64) -> Array {
        Array { shape: vec![], data: vec![value] }
    }

    /// Rows and columns; a single axis is a row.
    fn matrix(&self) -> (usize, usize) {
        match self.shape[..] {
            [] => (1, 1),
            [n] => (1, n),
            [m, n] => (m, n),
            _ => unreachable!("no array here has more than two axes"),
        }
    }

    fn map(mut self, f: impl Fn(f64) -> f64) -> Array {
        self.data.iter_mut().for_each(|x| *x = f(*x));
        self
    }

    /// Element by element, with NumPy's broadcasting.
    fn zip(&self, other: &Array, f: impl Fn(f64, f64) -> f64) -> Result<Array, String> {
        let ((am, an), (bm, bn)) = (self.matrix(), other.matrix());
        let length = |a: usize, b: usize| match (a, b) {
            (a, b) if a == b => Ok(a),
            (1, n) | (n, 1) => Ok(n),
            _ => Err(format!("{:?} and {:?} do not go together", self.shape, other.shape)),
        };
        let (m, n) = (length(am, bm)?, length(an, bn)?);
        let at = |x: &Array, (rows, columns): (usize, usize), i: usize, j: usize| {
            x.data[(if rows == 1 { 0 } else { i }) * columns + if columns == 1 { 0 } else { j }]
        };
        let value = |i: usize, j: usize| f(at(self, (am, an), i, j), at(other, (bm, bn), i, j));
        let data = (0..m * n).map(|k| value(k / n, k % n)).collect();
        let shape = match self.shape.len().max(other.shape.len()) {
            0 => vec![],
            1 => vec![n],
            _ => vec![m, n],
        };
        Ok(Array { shape, data })
    }

    fn matmul(&self, other: &Array) -> Result<Array, String> {
        let ([m, k], [k2, n]) = (&self.shape[..], &other.shape[..]) else { return Err("@ wants two matrices".into()) };
        if k != k2 {
            return Err(format!("{:?} @ {:?}", self.shape, other.shape));
        }
        let dot = |i: usize, j: usize| (0..*k).map(|l| self.data[i * k + l] * other.data[l * n + j]).sum();
        Ok(Array { shape: vec![*m, *n], data: (0..m * n).map(|at| dot(at / n, at % n)).collect() })
    }

    fn transposed(&self) -> Result<Array, String> {
        let [m, n] = self.shape[..] else { return Err(".T wants a matrix".into()) };
        Ok(Array { shape: vec![n, m], data: (0..m * n).map(|k| self.data[k % m * n + k / m]).collect() })
    }

    fn sum(&self) -> Array {
        Array::scalar(self.data.iter().sum())
    }

    fn sum_rows(&self) -> Result<Array, String> {
        let [m, n] = self.shape[..] else { return Err("a sum over axis 0 wants a matrix here".into()) };
        let column = |j: usize| (0..m).map(|i| self.data[i * n + j]).sum();
        Ok(Array { shape: vec![1, n], data: (0..n).map(column).collect() })
    }

    fn softmax(&self) -> Array {
        let columns = self.matrix().1;
        let mut out = self.clone();
        for row in out.data.chunks_mut(columns) {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|x| *x = (*x - top).exp());
            let total: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= total);
        }
        out
    }

    fn one_hot(&self, classes: usize) -> Array {
        let one = |k: usize| f64::from(u8::from(self.data[k / classes] == (k % classes) as f64));
        Array { shape: vec![self.data.len(), classes], data: (0..self.data.len() * classes).map(one).collect() }
    }

    /// `self[range(rows), columns]`
    fn pick(&self, rows: usize, columns: &Array) -> Result<Array, String> {
        let (m, n) = self.matrix();
        if m != rows || columns.data.len() != rows {
            return Err(format!("{:?}[range({rows}), {:?}]", self.shape, columns.shape));
        }
        let data = (0..m).map(|i| self.data[i * n + columns.data[i] as usize]).collect();
        Ok(Array { shape: vec![m], data })
    }
}

/// A recursive descent over what is left of the text.
struct Parser<'a> {
    text: &'a str,
    names: &'a Names,
}

impl<'a> Parser<'a> {
    /// Takes `token` if it comes next.
    fn take(&mut self, token: &str) -> bool {
        let rest = self.text.trim_start().strip_prefix(token);
        rest.inspect(|rest| self.text = rest).is_some()
    }

    fn want(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("`{token}` is missing before `{}`", self.text)) }
    }

    /// Takes as much as belongs to one word.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let text = self.text.trim_start();
        let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
        self.text = &text[end..];
        &text[..end]
    }

    fn sum(&mut self) -> Result<Array, String> {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = value.zip(&self.product()?, |a, b| a + b)?;
            } else if self.take("-") {
                value = value.zip(&self.product()?, |a, b| a - b)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Array, String> {
        let mut value = self.signed()?;
        loop {
            if self.take("@") {
                value = value.matmul(&self.signed()?)?;
            } else if self.take("/") {
                value = value.zip(&self.signed()?, |a, b| a / b)?;
            } else if self.take("*") {
                value = value.zip(&self.signed()?, |a, b| a * b)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn signed(&mut self) -> Result<Array, String> {
        if self.take("-") { Ok(self.signed()?.map(|x| -x)) } else { self.power() }
    }

    fn power(&mut self) -> Result<Array, String> {
        let base = self.postfix()?;
        if self.take("**") { base.zip(&self.signed()?, f64::powf) } else { Ok(base) }
    }

    fn postfix(&mut self) -> Result<Array, String> {
        let mut value = self.atom()?;
        loop {
            if self.take(".T") {
                value = value.transposed()?;
            } else if self.take(".sum(axis=0, keepdims=True)") {
                value = value.sum_rows()?;
            } else if self.take(".sum()") {
                value = value.sum();
            } else if self.take(".mean()") {
                let n = value.data.len() as f64;
                value = value.sum().map(|x| x / n);
            } else if self.take("[range(") {
                let rows = self.count()?;
                self.want("),")?;
                let columns = self.sum()?;
                self.want("]")?;
                value = value.pick(rows, &columns)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn count(&mut self) -> Result<usize, String> {
        self.word(|c| c.is_ascii_digit()).parse().map_err(|_| format!("a count is missing before `{}`", self.text))
    }

    fn atom(&mut self) -> Result<Array, String> {
        if self.take("(") {
            let value = self.sum()?;
            self.want(")")?;
            return Ok(value);
        }
        if self.text.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            return self.number();
        }
        let name = self.word(|c| c.is_alphanumeric() || c == '_');
        if !self.take("(") {
            return self.names.get(name).cloned().ok_or_else(|| format!("`{name}` has no value yet"));
        }
        let x = self.sum()?;
        let value = match name {
            "sigmoid" => x.map(|x| 1.0 / (1.0 + (-x).exp())),
            "tanh" => x.map(f64::tanh),
            "log" => x.map(f64::ln),
            "exp" => x.map(f64::exp),
            "softmax" => x.softmax(),
            "onehot" => {
                self.want(",")?;
                x.one_hot(self.count()?)
            }
            _ => return Err(format!("there is no function `{name}`")),
        };
        self.want(")")?;
        Ok(value)
    }

    fn number(&mut self) -> Result<Array, String> {
        let text = self.text.trim_start();
        let mut end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        // `4.T` is no number, and neither is a dot at its end.
        if text[end..].starts_with(['e', 'E']) {
            let exponent = &text[end + 1..];
            let sign = usize::from(exponent.starts_with(['-', '+']));
            let digits = exponent[sign..].chars().take_while(char::is_ascii_digit).count();
            end += 1 + sign + digits;
        }
        self.text = &text[end..];
        text[..end].parse().map(Array::scalar).map_err(|_| format!("`{}` is no number", &text[..end]))
    }
}
