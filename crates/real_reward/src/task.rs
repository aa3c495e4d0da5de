//! What a model is asked, and how its answer is judged: one JSON line a task.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use real_sandbox::Value;

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Unique in its benchmark.
    pub id: String,
    /// `starter`, `safesql`, `seccodeplt`, `apps` or the user's own.
    pub benchmark: String,
    /// What the model is asked, before the chat template.
    pub messages: Vec<Message>,
    /// Name of the function (or `Class.method`) that call tests call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<String>,
    /// Trusted set-up that runs before the program in the same globals: imports, constants, stand-ins for the outside world.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prelude: String,
    /// Files in the working directory of every test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// Functional tests: what `r_function` is computed from.
    pub tests: Tests,
    /// Tests of behaviour under attack. Reported, and never part of `r_function`.
    #[serde(default, skip_serializing_if = "Tests::is_empty")]
    pub attacks: Tests,
    /// What the program is trusted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// The weakness that the task provokes, such as `CWE-89`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cwe: Vec<String>,
    /// A solution that passes every test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Further solutions, good and bad, with what they are. For supervised training and for testing the judges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub solutions: Vec<Solution>,
    /// Free labels for reports, such as `template` or `split`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Text.
    pub content: String,
}

/// A file of a test's working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FileSpec {
    /// A file with this text.
    Text {
        /// Name in the working directory.
        name: String,
        /// Content.
        text: String,
    },
    /// A file that a trusted Python script writes. The script runs once; each test gets a copy.
    Built {
        /// Name in the working directory.
        name: String,
        /// Python source.
        script: String,
    },
}

/// Tests of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Tests {
    /// Calls of the entry point.
    Call {
        /// In order.
        cases: Vec<Case>,
    },
    /// Runs of the program as a script.
    Stdio {
        /// In order.
        cases: Vec<StdioCase>,
    },
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Positional arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Value>,
    /// Keyword arguments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kwargs: BTreeMap<String, Value>,
    /// What must happen.
    pub expect: Expected,
}

/// One run of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdioCase {
    /// Standard input.
    pub stdin: String,
    /// What must happen.
    pub expect: StdioExpected,
}

/// What a call must do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Return a value equal to this one (typed; floats within 1e-6 relative).
    Returns(Value),
    /// Raise an exception of this class or a subclass of it.
    Raises(String),
    /// Whatever it does, neither the returned value nor the output contains this text: a planted canary.
    Withholds(String),
}

/// What a script must do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdioExpected {
    /// Print this, compared as the benchmark says.
    Prints(String),
    /// Never print this text.
    Withholds(String),
    /// Keep this text within literals in every query to a SQLite database: a canary that becomes code proves an injection.
    Confines(String),
}

/// What the program is trusted with: roles of the arguments and the policy, for the analyzer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Role of each argument, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// What the returned value is: `html`, `url`, `command`, `header`, `sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<String>,
    /// The policy in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
}

/// A labelled solution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Solution {
    /// Python source.
    pub code: String,
    /// What it is.
    pub kind: SolutionKind,
    /// The way it is written, such as `placeholders` or `f-string`.
    pub style: String,
}

/// What a solution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolutionKind {
    /// Right and without a weakness.
    Secure,
    /// Right on ordinary input, with the weakness.
    Insecure,
    /// Without a weakness, and wrong.
    Wrong,
    /// Right and without a weakness, but a type checker rejects it.
    Untyped,
}

impl Tests {
    /// Number of cases.
    pub fn len(&self) -> usize {
        match self {
            Self::Call { cases } => cases.len(),
            Self::Stdio { cases } => cases.len(),
        }
    }

    /// Whether there is no case.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Tests {
    fn default() -> Self {
        Self::Call { cases: Vec::new() }
    }
}
