//! A machine whose health is told.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ferric_drivers::DriverError;
use ferric_drivers::interface::{
    EventLog, Fru, FruArea, Health, Identify, LogEntry, ManagementInterface, NodeView, Property, Result,
    Sensor, SensorState, Sensors, Thresholds,
};
use ferric_drivers::management::NoopManagement;
use ferric_machine::{BootDevice, BootMode, Timestamp};

/// Management `noop`, with a machine whose health is told.
pub(crate) struct Watched;

/// Who asks for a light of so many seconds asks a BMC that never answers.
pub(crate) const DEAD: u8 = 250;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_micros()).expect("before the year 200000"))
}

#[async_trait]
impl ManagementInterface for Watched {
    fn properties(&self) -> &'static [Property] {
        NoopManagement.properties()
    }

    fn validate(&self, node: &NodeView) -> Result<()> {
        NoopManagement.validate(node)
    }

    fn supported_boot_devices(&self) -> &'static [BootDevice] {
        NoopManagement.supported_boot_devices()
    }

    fn refused_boot_device(&self, device: &str) -> DriverError {
        NoopManagement.refused_boot_device(device)
    }

    async fn boot_device(&self, node: &NodeView) -> Result<(Option<BootDevice>, Option<bool>)> {
        NoopManagement.boot_device(node).await
    }

    async fn set_boot_device(
        &self,
        node: &NodeView,
        to: BootDevice,
        keep: bool,
        mode: BootMode,
    ) -> Result<()> {
        NoopManagement.set_boot_device(node, to, keep, mode).await
    }

    async fn sensors(&self, _: &NodeView) -> Result<Sensors> {
        let fan = Sensor {
            name: "FAN1".to_owned(),
            number: 16,
            kind: "Fan".to_owned(),
            value: Some(450.0),
            unit: Some("rpm".to_owned()),
            state: SensorState::Critical,
            states: Vec::new(),
            thresholds: Some(Thresholds { lower_critical: Some(600.0), ..Thresholds::default() }),
        };
        Ok(Sensors::new(now(), vec![fan]))
    }

    async fn event_log(&self, _: &NodeView, most: usize) -> Result<EventLog> {
        let entry = |id: u16| LogEntry {
            id,
            at: Some(Timestamp(1_767_225_600_000_000)),
            sensor: Some("FAN1".to_owned()),
            sensor_type: Some("Fan".to_owned()),
            event: "Lower Critical - going low".to_owned(),
            asserted: Some(true),
            severity: Health::Critical,
            raw: "00".repeat(16),
        };
        Ok(EventLog { count: 3, overflow: false, entries: (1..=3).rev().map(entry).take(most).collect() })
    }

    async fn clear_event_log(&self, _: &NodeView) -> Result<()> {
        Ok(())
    }

    async fn fru(&self, _: &NodeView) -> Result<Vec<Fru>> {
        let fields = [("manufacturer".to_owned(), "Ferric".to_owned())].into();
        let made_at = Some(Timestamp(946_684_800_000_000));
        let board = FruArea { fields, extra: Vec::new(), made_at, checksum_ok: true };
        Ok(vec![Fru {
            id: 0,
            name: "Mainboard".to_owned(),
            chassis: None,
            board: Some(board),
            product: None,
        }])
    }

    async fn identify(&self, _: &NodeView, light: Identify) -> Result<()> {
        match light {
            Identify::For(DEAD) => std::future::pending().await,
            Identify::For(_) | Identify::Off => Ok(()),
            Identify::On => Err(DriverError::Refused {
                what: "the BMC".into(),
                command: "the identify light".into(),
                reason: "it has none that stays on".into(),
            }),
        }
    }
}
