//! The keys whose values are one word of a few.

pub use geartrain_nn::Activation;

/// A value that is one word of a few.
pub trait Choice {
    /// The word that stands for the value.
    fn chosen(&self) -> &str;
    /// Takes the value that a word stands for; false, and no change, where there is none.
    fn choose(&mut self, word: &str) -> bool;
}

/// Defines an enum whose values have names, the first being its `Default`.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $(#[$first_doc:meta])* $first:ident = $first_word:literal
        $(, $(#[$value_doc:meta])* $value:ident = $word:literal)* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $(#[$first_doc])* #[default] $first, $($(#[$value_doc])* $value),* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$name::$first, $($name::$value),*];
            /// The words that stand for the values, in the same order.
            pub const NAMES: &'static [&'static str] = &[$first_word, $($word),*];

            /// The word that stands for the value.
            pub fn name(self) -> &'static str {
                match self { $name::$first => $first_word, $($name::$value => $word),* }
            }
        }

        by_name!($name);
    };
}

/// Makes a [`Choice`] of an enum that lists its values and names them.
macro_rules! by_name {
    ($name:ident) => {
        impl Choice for $name {
            fn chosen(&self) -> &str {
                self.name()
            }

            fn choose(&mut self, word: &str) -> bool {
                let found = Self::ALL.iter().find(|value| value.name() == word);
                *self = found.copied().unwrap_or(*self);
                found.is_some()
            }
        }
    };
}

// `model.activation`: the function between the layers of the feed-forward part.
by_name!(Activation);

choices! {
    /// What one token is.
    TokenizerKind {
        /// A character of the text.
        Char = "char",
        /// A byte of the text's UTF-8.
        Byte = "byte",
        /// A frequent sequence of bytes.
        Bpe = "bpe",
    }
}

/// `data.tokenizer`: where the tokenizer of a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// It is made for the text.
    Made(TokenizerKind),
    /// It is read from a `tokenizer.json`.
    File(String),
}

impl TokenizerSource {
    /// Whether a word that names no kind names a file.
    pub(super) fn is_file(word: &str) -> bool {
        word.contains(['/', '\\']) || word.ends_with(".json")
    }
}

impl Default for TokenizerSource {
    fn default() -> TokenizerSource {
        TokenizerSource::Made(TokenizerKind::default())
    }
}

impl Choice for TokenizerSource {
    fn chosen(&self) -> &str {
        match self {
            TokenizerSource::Made(kind) => kind.name(),
            TokenizerSource::File(path) => path,
        }
    }

    fn choose(&mut self, word: &str) -> bool {
        let mut kind = TokenizerKind::default();
        let known = kind.choose(word);
        if known {
            *self = TokenizerSource::Made(kind);
        } else if TokenizerSource::is_file(word) {
            *self = TokenizerSource::File(word.to_string());
        }
        known || TokenizerSource::is_file(word)
    }
}

choices! {
    /// `data.order`: which windows of the text a step reads.
    Order {
        /// Random places, drawn anew for each step.
        Shuffle = "shuffle",
        /// One window after the other.
        Sequential = "sequential",
    }
}

choices! {
    /// `model.kind`: the network.
    ModelKind {
        /// A transformer as GPT-2.
        Gpt2 = "gpt2",
        /// A window of embeddings and one hidden layer (Bengio and others, 2003).
        Ngram = "ngram",
        /// A recurrent network (Elman, 1990).
        Rnn = "rnn",
        /// A gated recurrent unit (Cho and others, 2014).
        Gru = "gru",
        /// Fully connected layers, for the rows of a table.
        Mlp = "mlp",
    }
}

choices! {
    /// `data.task`: what is learned about the target of a table.
    TaskKind {
        /// Decided by the target: texts and a few whole numbers are classes, other numbers are numbers.
        Auto = "auto",
        /// Which class a row belongs to.
        Classification = "classification",
        /// Which number a row has.
        Regression = "regression",
    }
}

choices! {
    /// `data.missing`: what an empty cell of a table stands for.
    Missing {
        /// An error.
        Refuse = "refuse",
        /// The mean of its column, or, among words, a word of its own.
        Mean = "mean",
    }
}

choices! {
    /// `train.class_weights`: how much the examples of a class count.
    ClassWeights {
        /// Every example the same.
        None = "none",
        /// Every class the same, so each example of a rare class more.
        Balanced = "balanced",
    }
}

choices! {
    /// `optimizer.kind`: the update rule.
    OptimizerKind {
        /// Plain gradient descent.
        Sgd = "sgd",
        /// Gradient descent with momentum.
        Momentum = "momentum",
        /// Momentum that looks ahead.
        Nesterov = "nesterov",
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
        /// Adam with weight decay as part of the gradient.
        Adam = "adam",
        /// Steps divided by the root of a moving mean of squares.
        RmsProp = "rmsprop",
        /// Steps divided by the root of the sum of squares.
        Adagrad = "adagrad",
        /// Steps of one size along the sign of a moving mean.
        Lion = "lion",
    }
}

choices! {
    /// `optimizer.decay`: which parameters weight decay acts on.
    Decay {
        /// Those of two or more axes: not biases and not gains.
        Matrices = "matrices",
        /// All.
        All = "all",
    }
}

choices! {
    /// `train.precision`: what matrix products multiply. Weights, sums and everything else are f32.
    Precision {
        /// f32.
        F32 = "f32",
        /// f32 rounded to bfloat16, subnormal numbers to 0.
        Bf16 = "bf16",
    }
}

choices! {
    /// `schedule.kind`: the learning rate after the warm-up.
    ScheduleKind {
        /// Stays as it is.
        Constant = "constant",
        /// Falls along half a cosine wave.
        Cosine = "cosine",
        /// Falls by a factor every so many steps.
        Step = "step",
        /// Falls by the same factor as evenly as interest.
        Exponential = "exponential",
        /// Rises along half a cosine wave and falls along another (Smith and Topin, 2018).
        OneCycle = "onecycle",
        /// Falls by a factor when the validation loss no longer does.
        Plateau = "plateau",
    }
}
