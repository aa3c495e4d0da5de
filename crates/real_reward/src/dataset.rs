//! The benchmarks as tasks.
//!
//! | benchmark | files under the data folder | tests | attacks |
//! |---|---|---|---|
//! | `starter` | none: generated | calls and scripts | yes |
//! | `safesql` | `safesql/{train,test}.parquet` | scripts against a database | none yet: see [`safesql`] |
//! | `seccodeplt` | `seccodeplt/{train,test}.parquet` | calls (`capability`) | calls (`safety`) |
//! | `apps` | `apps/test.parquet` | calls | none |

mod apps;
mod parquet_rows;
mod safesql;
mod seccodeplt;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::{Error, Task, Tools, starter};

/// A benchmark that `load` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Benchmark {
    /// Our own generated tasks.
    Starter,
    /// SQL injection: scripts that query a database.
    SafeSql,
    /// SecCodePLT+: functions over 17 weaknesses.
    SecCodePlt,
    /// APPS+: algorithmic problems, judged for types.
    Apps,
}

/// Which part of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// What a policy is trained on.
    Train,
    /// What it is evaluated on.
    Test,
}

/// The tasks of one split, in the order of the file.
///
/// The tests of SecCodePLT+ are Python source, which the sandbox evaluates: that is what `tools` is for.
pub fn load(benchmark: Benchmark, data: &Path, split: Split, tools: &Tools) -> Result<Vec<Task>, Error> {
    let file = |folder: &str| data.join(folder).join(format!("{split}.parquet"));
    match benchmark {
        Benchmark::Starter => Ok(starter::benchmark(split, 1, 512)),
        Benchmark::SafeSql => safesql::load(&file("safesql"), split),
        Benchmark::SecCodePlt => seccodeplt::load(&file("seccodeplt"), split, tools),
        Benchmark::Apps => apps::load(&file("apps"), split),
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starter => "starter",
            Self::SafeSql => "safesql",
            Self::SecCodePlt => "seccodeplt",
            Self::Apps => "apps",
        })
    }
}

impl FromStr for Benchmark {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [Self::Starter, Self::SafeSql, Self::SecCodePlt, Self::Apps]
            .into_iter()
            .find(|benchmark| benchmark.to_string() == name)
            .ok_or_else(|| {
                Error::Unknown(format!(
                    "no benchmark `{name}`: starter, safesql, seccodeplt or apps is expected"
                ))
            })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "train" => Ok(Self::Train),
            "test" => Ok(Self::Test),
            _ => Err(Error::Unknown(format!("no split `{name}`: train or test is expected"))),
        }
    }
}
