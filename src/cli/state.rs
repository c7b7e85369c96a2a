//! Where the commands that work on the state find it: `--state-dir`, or what the configuration says.

use std::path::PathBuf;

use crate::cli::exit::Failure;
use crate::cli::files::CONFIG;
use crate::config;
use crate::ops::books::ledger::directory;
use crate::ops::books::store::StoreError;

/// The state directory of a command.
#[derive(clap::Args)]
pub struct StateArgs {
    /// The gateway's configuration, for its `state_dir`
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The state directory itself; the configuration is not read
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// # Errors
    ///
    /// A configuration that is not there or is refused.
    pub fn state_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(state_dir) = &self.state_dir {
            return Ok(state_dir.clone());
        }
        if !self.config.exists() {
            let config = self.config.display();
            return Err(Failure::usage(format!(
                "There is no {config}. Name the configuration by --config, or the state directory by --state-dir."
            )));
        }
        config::load_from_machine(&self.config, &Default::default())
            .map(|loaded| loaded.settings.state_dir)
            .map_err(|faults| Failure::usage(faults.to_string()))
    }

    /// The state directory, with a ledger in it.
    ///
    /// # Errors
    ///
    /// As [`StateArgs::state_dir`], and a directory without one.
    pub fn with_ledger(&self) -> Result<PathBuf, Failure> {
        let state_dir = self.state_dir()?;
        if directory(&state_dir).exists() {
            return Ok(state_dir);
        }
        Err(Failure::usage(format!(
            "There is no ledger in {}. Name the state directory by `state_dir` in the configuration or by --state-dir.",
            state_dir.display()
        )))
    }
}

/// What a database that can't be read means for a report: only a lock goes by itself.
pub fn database(error: &StoreError) -> Failure {
    match error {
        StoreError::Busy { .. } => Failure::try_again(error.to_string()),
        _ => Failure::software(error.to_string()),
    }
}
