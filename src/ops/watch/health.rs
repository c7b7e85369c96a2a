//! The health document of L3, and the short answer that says no more than that the process lives.

use serde::Serialize;

use crate::ops::watch::counters::Snapshot;
use crate::ops::watch::vitals::Vitals;

/// The health document. Serialise it as it stands; README names its fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health<'a> {
    pub status: HealthStatus,
    /// Whether `model_routing` is on.
    pub enabled: bool,
    pub models_configured: usize,
    pub default_target: Option<&'a str>,
    pub routing_attempts: u64,
    pub routing_success: u64,
    pub routing_fallback: u64,
    pub parsing_errors: u64,
    /// Microseconds from a complete body to a decided route, averaged over all attempts; 0 without traffic.
    pub avg_processing_time: f64,
    pub version: &'static str,
    pub uptime_s: u64,
}

/// What share of the routing attempts was decided by the request's own model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// At least 95 %, or no traffic yet.
    Healthy,
    /// At least 80 %.
    Degraded,
    Unhealthy,
}

impl HealthStatus {
    pub fn of(success: u64, attempts: u64) -> Self {
        let reaches = |percent: u64| u128::from(success) * 100 >= u128::from(attempts) * u128::from(percent);
        match () {
            () if reaches(95) => Self::Healthy,
            () if reaches(80) => Self::Degraded,
            () => Self::Unhealthy,
        }
    }
}

impl<'a> Health<'a> {
    pub fn of(vitals: &Vitals<'a>) -> Self {
        let seen = vitals.counters.snapshot();
        Self {
            status: HealthStatus::of(seen.routing_success, seen.routing_attempts),
            enabled: vitals.routing_enabled,
            models_configured: vitals.models_configured,
            default_target: vitals.default_target,
            routing_attempts: seen.routing_attempts,
            routing_success: seen.routing_success,
            routing_fallback: seen.routing_fallback,
            parsing_errors: seen.parsing_errors,
            avg_processing_time: average_micros(&seen),
            version: vitals.version,
            uptime_s: vitals.uptime.as_secs(),
        }
    }
}

/// Rounded to nanoseconds.
fn average_micros(seen: &Snapshot) -> f64 {
    if seen.routing_attempts == 0 {
        return 0.0;
    }
    (seen.routing_time.as_secs_f64() * 1e9 / seen.routing_attempts as f64).round() / 1e3
}

/// The body of the liveness probe: whoever can send it is alive.
pub const ALIVE: &str = r#"{"status":"alive"}"#;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::ops::watch::counters::Counters;

    fn document(counters: &Counters, default_target: Option<&str>) -> serde_json::Value {
        Vitals::example(counters, |vitals| {
            let uptime = Duration::from_millis(5_999);
            serde_json::to_value(Health::of(&Vitals { models_configured: 4, default_target, uptime, ..*vitals })).unwrap()
        })
    }

    #[test]
    fn l3_without_traffic_all_is_well_and_zero() {
        let document = document(&Counters::default(), None);
        assert_eq!(
            document,
            json!({
                "status": "healthy", "enabled": true, "models_configured": 4, "default_target": null, "routing_attempts": 0,
                "routing_success": 0, "routing_fallback": 0, "parsing_errors": 0, "avg_processing_time": 0.0, "version": "1.2.3",
                "uptime_s": 5,
            })
        );
    }

    #[test]
    fn l3_the_counters_and_the_average_stand_in_the_document() {
        let counters = Counters::default();
        counters.routed(true, Duration::from_nanos(2_000));
        counters.routed(false, Duration::from_nanos(3_001));
        counters.parse_error();
        let document = document(&counters, Some("https://api.openai.com/v1"));
        assert_eq!(document["routing_attempts"], 2);
        assert_eq!(document["routing_success"], 1);
        assert_eq!(document["routing_fallback"], 1);
        assert_eq!(document["parsing_errors"], 1);
        assert_eq!(document["avg_processing_time"], 2.501);
        assert_eq!(document["default_target"], "https://api.openai.com/v1");
        assert_eq!(document["status"], "unhealthy");
    }

    #[test]
    fn l3_the_thresholds_are_95_and_80_percent() {
        for (success, attempts, status) in [
            (0, 0, HealthStatus::Healthy),
            (1, 1, HealthStatus::Healthy),
            (95, 100, HealthStatus::Healthy),
            (949, 1_000, HealthStatus::Degraded),
            (80, 100, HealthStatus::Degraded),
            (799, 1_000, HealthStatus::Unhealthy),
            (0, 1, HealthStatus::Unhealthy),
        ] {
            assert_eq!(HealthStatus::of(success, attempts), status, "{success} of {attempts}");
        }
    }
}
