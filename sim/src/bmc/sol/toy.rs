//! A machine that is nothing but a serial console: it says what a machine says while it starts, then lets one log in.

use std::sync::Arc;
use std::time::Duration;

use ferric_drivers::protocol::ipmi::command::ChassisControl;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Serial, SerialIn, SerialOut};
use crate::bmc::Chassis;

/// Wait between two lines while it starts, and between two looks at the power.
const LINE: Duration = Duration::from_millis(15);
/// Longest line that is typed into it.
const LONGEST: usize = 512;

/// What it says from power-on to the login prompt.
const TRANSCRIPT: &[&str] = &[
    "\x1b[2J\x1b[HFerric Simulated BIOS 1.0",
    "CPU: 1 x simulated, 2048 MB memory OK",
    "Press F2 for setup, F12 for network boot",
    "",
    "iPXE 1.21.1 -- Open Source Network Boot Firmware",
    "net0: 52:54:00:00:00:01 using virtio-net [open]",
    "Configuring (net0 52:54:00:00:00:01)...... ok",
    "boot.ipxe : 512 bytes [script]",
    "",
    "[    0.000000] Linux version 6.1.0-ferric (simulated)",
    "[    0.000000] Command line: console=ttyS0,115200n8",
    "[    0.512345] ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
    "[    1.204531] Run /init as init process",
    "",
    "Simulated GNU/Linux ttyS0",
    "",
];

const LOGIN: &str = "simulated login: ";
const PROMPT: &str = "# ";

/// A toy behind a BMC; it follows the power of its chassis.
pub struct ToyMachine(pub Arc<dyn Chassis>);

impl Serial for ToyMachine {
    fn connect(&self, out: SerialOut) -> mpsc::Sender<SerialIn> {
        let (typed, input) = mpsc::channel(64);
        let toy = Toy { chassis: self.0.clone(), out, input, line: Vec::new(), user: None, said: None };
        tokio::spawn(toy.live());
        typed
    }
}

struct Toy {
    chassis: Arc<dyn Chassis>,
    out: SerialOut,
    input: mpsc::Receiver<SerialIn>,
    line: Vec<u8>,
    user: Option<String>,
    /// What its software said last of what it does.
    said: Option<String>,
}

impl Toy {
    async fn live(mut self) {
        let mut was_on = self.chassis.power();
        if was_on && !self.prompt().await {
            return;
        }
        loop {
            let is_on = self.chassis.power();
            if is_on && !was_on {
                if !self.boot().await {
                    return;
                }
                // it may have been switched off meanwhile
                was_on = true;
                continue;
            }
            was_on = is_on;
            if is_on && !self.say().await {
                return;
            }
            tokio::select! {
                given = self.input.recv() => match given {
                    None => return,
                    // a machine without power hears nothing
                    Some(_) if !is_on => {}
                    Some(SerialIn::Break) => if !self.out.send("\r\nSysRq : HELP : loglevel(0-9) reboot(b) sync(s)\r\n").await {
                        return;
                    },
                    Some(SerialIn::Bytes(bytes)) => for byte in bytes {
                        if !self.typed(byte).await {
                            return;
                        }
                    },
                },
                () = sleep(LINE) => if !self.out.is_open() { return },
            }
        }
    }

    /// What it does, when that has changed.
    async fn say(&mut self) -> bool {
        let doing = self.chassis.doing();
        if doing == self.said {
            return true;
        }
        self.said = doing;
        match &self.said {
            Some(text) => self.out.send(format!("\r\n[ferric-agent] {text}\r\n")).await,
            None => true,
        }
    }

    async fn boot(&mut self) -> bool {
        self.line.clear();
        self.user = None;
        for line in TRANSCRIPT {
            if !self.chassis.power() {
                return true;
            }
            if !self.out.send(format!("{line}\r\n")).await {
                return false;
            }
            sleep(LINE).await;
        }
        self.prompt().await
    }

    async fn prompt(&mut self) -> bool {
        self.out.send(if self.user.is_some() { PROMPT } else { LOGIN }).await
    }

    async fn typed(&mut self, byte: u8) -> bool {
        match byte {
            b'\r' | b'\n' => {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim().to_owned();
                self.out.send("\r\n").await && self.entered(&line).await && self.prompt().await
            }
            0x08 | 0x7F => self.line.pop().is_none() || self.out.send("\x08 \x08").await,
            _ if self.line.len() < LONGEST => {
                self.line.push(byte);
                self.out.send([byte]).await
            }
            _ => true,
        }
    }

    async fn entered(&mut self, line: &str) -> bool {
        let answer = match (&self.user, line.split_once(' ').unwrap_or((line, ""))) {
            (_, ("", _)) => return true,
            (None, (name, _)) => {
                self.user = Some(name.to_owned());
                format!("Welcome, {name}")
            }
            (Some(_), ("echo", text)) => text.to_owned(),
            (Some(user), ("whoami", _)) => user.clone(),
            (Some(_), ("uname", _)) => "Linux simulated 6.1.0-ferric".to_owned(),
            (Some(_), ("dmesg", _)) => TRANSCRIPT[9..13].join("\r\n"),
            (Some(_), ("exit", _)) => {
                self.user = None;
                "logout".to_owned()
            }
            (Some(_), ("reboot", _)) => {
                self.chassis.control(ChassisControl::Reset);
                return self.boot().await;
            }
            (Some(_), ("poweroff", _)) => {
                self.chassis.control(ChassisControl::Soft);
                "Power down".to_owned()
            }
            (Some(_), (other, _)) => format!("sh: {other}: not found"),
        };
        self.out.send(format!("{answer}\r\n")).await
    }
}
