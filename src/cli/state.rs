//! Where the commands that work on the state find it: `--state-dir`, or what the configuration says.

use std::path::PathBuf;

use crate::config;

/// The state directory of a command.
#[derive(clap::Args)]
pub struct StateArgs {
    /// The gateway's configuration, for its `state_dir`
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    config: PathBuf,
    /// The state directory itself; the configuration is not read
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// # Errors
    ///
    /// A configuration that is not there or is refused.
    pub fn state_dir(&self) -> Result<PathBuf, String> {
        if let Some(state_dir) = &self.state_dir {
            return Ok(state_dir.clone());
        }
        if !self.config.exists() {
            let config = self.config.display();
            return Err(format!(
                "There is no {config}. Name the configuration by --config, or the state directory by --state-dir."
            ));
        }
        config::load_from_machine(&self.config).map(|loaded| loaded.settings.state_dir).map_err(|faults| faults.to_string())
    }
}
