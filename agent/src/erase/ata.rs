//! ATA: what a disk says of its security commands, and letting it erase itself (ACS-4 §7, SAT-4 §12.2).

use std::fs::File;
use std::io;
use std::time::Duration;

use super::Trouble;
use super::ioctl::{self, Answer, Data};
use super::plan::Ata;

const IDENTIFY: u8 = 0xec;
const SET_PASSWORD: u8 = 0xf1;
const UNLOCK: u8 = 0xf2;
const ERASE_PREPARE: u8 = 0xf3;
const ERASE_UNIT: u8 = 0xf4;
const DISABLE_PASSWORD: u8 = 0xf6;

/// The password set for the time of the erasing; a disk whose erasing was interrupted is opened with it again.
const PASSWORD: &[u8] = b"NULL";

/// For everything but the erasing.
const QUICK: Duration = Duration::from_secs(30);

/// For an erasing of untold length.
const UNTOLD: Duration = Duration::from_secs(24 * 3600);

const SECTOR: usize = 512;

/// The way to a disk: a real one, or a pretended one in tests.
trait Link {
    /// Carries out a command.
    fn send(&mut self, command: u8, data: Data<'_>, within: Duration) -> io::Result<()>;
}

struct Real<'a>(&'a File);

impl Link for Real<'_> {
    fn send(&mut self, command: u8, mut data: Data<'_>, within: Duration) -> io::Result<()> {
        let mut pass_through = pass_through(command, &mut data);
        let answer = ioctl::scsi(self.0, &mut pass_through, data, within)?;
        judge(command, &answer)
    }
}

/// What IDENTIFY DEVICE says. None for what does not answer it.
pub(super) fn probe(file: &File) -> Option<Ata> {
    identify(&mut Real(file))
}

/// Sets a password, erases, and makes sure that no password is left. Blocks until it is done.
pub(super) fn erase(file: &File, enhanced: bool) -> Result<(), Trouble> {
    erase_over(&mut Real(file), enhanced)
}

/// Opens a disk that an interrupted erasing left locked or with our password. Errors: why nothing on it can be reached.
pub(super) fn release(file: &File) -> Result<(), String> {
    release_over(&mut Real(file))
}

fn identify(disk: &mut impl Link) -> Option<Ata> {
    let mut identity = [0; SECTOR];
    disk.send(IDENTIFY, Data::In(&mut identity), QUICK).ok()?;
    Some(read_identity(&identity))
}

fn read_identity(bytes: &[u8; SECTOR]) -> Ata {
    let word = |n: usize| u16::from_le_bytes([bytes[n * 2], bytes[n * 2 + 1]]);
    let security = word(128);
    let bit = |n: u16| security >> n & 1 == 1;
    Ata {
        supported: bit(0),
        enabled: bit(1),
        locked: bit(2),
        frozen: bit(3),
        expired: bit(4),
        enhanced: bit(5),
        minutes: minutes(word(89)),
        enhanced_minutes: minutes(word(90)),
    }
}

/// The word counts in two minutes; its top bit says that all other bits count, else eight do.
fn minutes(word: u16) -> u32 {
    let units = if word & 0x8000 != 0 { word & 0x7fff } else { word & 0xff };
    u32::from(units) * 2
}

/// How long to wait: three times what the disk thinks.
fn patience(ata: Ata, enhanced: bool) -> Duration {
    match if enhanced { ata.enhanced_minutes } else { ata.minutes } {
        0 => UNTOLD,
        minutes => Duration::from_secs(u64::from(minutes) * 60 * 3).max(Duration::from_secs(3600)),
    }
}

fn erase_over(disk: &mut impl Link, enhanced: bool) -> Result<(), Trouble> {
    let silent = || io::Error::other("it no longer answers IDENTIFY DEVICE before the erasing");
    let before = identify(disk).ok_or_else(silent)?;
    let foreign = |error| io::Error::other(format!("it has a password that is not ours: {error}"));
    if before.locked {
        disk.send(UNLOCK, Data::Out(&mut block(0)), QUICK).map_err(foreign)?;
    }
    if before.enabled {
        // left over from an interrupted erasing
        disk.send(DISABLE_PASSWORD, Data::Out(&mut block(0)), QUICK).map_err(foreign)?;
    }
    let erased = disk
        .send(SET_PASSWORD, Data::Out(&mut block(0)), QUICK)
        .and_then(|()| disk.send(ERASE_PREPARE, Data::None, QUICK))
        .and_then(|()| {
            let mut order = block(if enhanced { 0b10 } else { 0 });
            disk.send(ERASE_UNIT, Data::Out(&mut order), patience(before, enhanced))
        });
    // a finished erasing has taken the password away; after a failed one nobody else would know it
    let after = identify(disk);
    if after.is_none_or(|after| after.enabled) {
        if after.is_none_or(|after| after.locked) {
            // refused where it is not locked, and then not needed
            let _ = disk.send(UNLOCK, Data::Out(&mut block(0)), QUICK);
        }
        if let Err(error) = disk.send(DISABLE_PASSWORD, Data::Out(&mut block(0)), QUICK) {
            tracing::error!(%error, "the ATA password (\"NULL\") could not be taken away");
        }
    }
    let state = match identify(disk) {
        Some(after) if !after.enabled => return Ok(erased?),
        Some(_) => "its ATA security is still switched on",
        None => "it no longer answers IDENTIFY DEVICE, so its ATA security may still be switched on",
    };
    let cause = erased.map_or_else(|error| format!("{error}; "), |()| String::new());
    Err(Trouble::Secured(format!(
        "{cause}{state}, with the user password \"NULL\" (four letters, then zeros): after a power cycle, unlock it \
         with SECURITY UNLOCK and SECURITY DISABLE PASSWORD (hdparm --security-unlock NULL, --security-disable NULL)"
    )))
}

/// Takes away what an interrupted erasing left: our own password. A disk that is open with a foreign one stays as it
/// is. Errors: why nothing on the disk can be reached.
fn release_over(disk: &mut impl Link) -> Result<(), String> {
    let Some(before) = identify(disk).filter(|ata| ata.supported && (ata.enabled || ata.locked)) else {
        return Ok(());
    };
    if before.frozen || before.expired {
        return if before.locked {
            Err("it is locked with an ATA password, and takes none before the next power cycle".to_owned())
        } else {
            Ok(())
        };
    }
    if before.locked {
        disk.send(UNLOCK, Data::Out(&mut block(0)), QUICK)
            .map_err(|error| format!("it is locked with a foreign password: {error}"))?;
    }
    match disk.send(DISABLE_PASSWORD, Data::Out(&mut block(0)), QUICK) {
        Ok(()) => Ok(()),
        Err(error) if before.locked => {
            Err(format!("it was unlocked, but its password \"NULL\" could not be taken away: {error}"))
        }
        Err(error) => {
            tracing::warn!(%error, "the disk has an ATA password that is not ours");
            Ok(())
        }
    }
}

/// The data of a security command: control word and user password.
fn block(control: u8) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    bytes[0] = control;
    bytes[2..2 + PASSWORD.len()].copy_from_slice(PASSWORD);
    bytes
}

/// ATA PASS-THROUGH (16): the protocol by the data's direction, one sector at most. The registers are not
/// asked for: they would turn every success into CHECK CONDITION, in a form that depends on the kernel.
fn pass_through(command: u8, data: &mut Data<'_>) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = 0x85;
    let (protocol, flags, sectors) = match data {
        Data::None => (3, 0, 0),
        Data::In(_) => (4, 0x08 | 0x04 | 0x02, 1),
        Data::Out(_) => (5, 0x04 | 0x02, 1),
    };
    (bytes[1], bytes[2], bytes[6], bytes[14]) = (protocol << 1, flags, sectors, command);
    bytes
}

/// A failed command comes as CHECK CONDITION, mostly with an ATA status descriptor.
fn judge(command: u8, answer: &Answer) -> io::Result<()> {
    if answer.host != 0 {
        let host = answer.host;
        return Err(io::Error::other(format!("ATA command {command:#04x}: host adapter status {host:#x}")));
    }
    if answer.sense.first().is_some_and(|code| code & 0x7f == 0x72)
        && let Some(registers) = answer.sense.get(8..22)
        && registers[0] == 0x09
    {
        // ERR and DF of the status register
        let (status, error) = (registers[13], registers[3]);
        if status & 0b10_0001 == 0 {
            return Ok(());
        }
        let aborted = if error & 0b100 != 0 { ", aborted" } else { "" };
        let text = format!("ATA command {command:#04x}: status {status:#04x}, error {error:#04x}{aborted}");
        return Err(io::Error::other(text));
    }
    if answer.status == 0 {
        return Ok(());
    }
    let key = match answer.sense.first().map(|code| code & 0x7f) {
        Some(0x72) => answer.sense.get(1),
        _ => answer.sense.get(2),
    };
    let (status, key) = (answer.status, key.map_or(0, |key| key & 0xf));
    Err(io::Error::other(format!(
        "ATA command {command:#04x}: SCSI status {status:#04x}, sense key {key:#x}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_words_and_times_are_read() {
        let mut bytes = [0; SECTOR];
        assert_eq!(read_identity(&bytes), Ata::default());
        let mut set = |word: usize, value: u16| {
            bytes[word * 2..word * 2 + 2].copy_from_slice(&value.to_le_bytes());
        };
        set(128, 0b10_1001);
        set(89, 0x0010);
        set(90, 0x8000 | 300);
        let seen = read_identity(&bytes);
        let expected = Ata {
            supported: true,
            frozen: true,
            enhanced: true,
            minutes: 32,
            enhanced_minutes: 600,
            ..Ata::default()
        };
        assert_eq!(seen, expected);
        assert_eq!(patience(seen, true), Duration::from_secs(3 * 600 * 60));
        assert_eq!(patience(Ata::default(), false), UNTOLD);
    }

    #[test]
    fn commands_are_wrapped_and_answers_judged_as_the_standard_says() {
        let mut sector = [0; SECTOR];
        let identify = pass_through(IDENTIFY, &mut Data::In(&mut sector));
        assert_eq!(identify, [0x85, 8, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xec, 0]);
        let unit = pass_through(ERASE_UNIT, &mut Data::Out(&mut sector));
        assert_eq!((unit[1], unit[2], unit[6], unit[14]), (10, 0x06, 1, 0xf4));
        let prepare = pass_through(ERASE_PREPARE, &mut Data::None);
        assert_eq!((prepare[1], prepare[2], prepare[6], prepare[14]), (6, 0, 0, 0xf3));
        let mut sense = vec![0; 22];
        (sense[0], sense[1], sense[7], sense[8], sense[9], sense[21]) = (0x72, 1, 14, 9, 12, 0x50);
        let answer = |sense: &[u8]| Answer { status: 2, host: 0, sense: sense.to_vec() };
        judge(ERASE_UNIT, &answer(&sense)).expect("ready, no error");
        (sense[11], sense[21]) = (4, 0x51);
        let refused = judge(ERASE_UNIT, &answer(&sense)).expect_err("aborted").to_string();
        assert!(refused.contains("aborted") && refused.contains("0xf4"), "{refused}");
        judge(IDENTIFY, &Answer { status: 0, host: 0, sense: vec![] }).expect("good");
        assert!(judge(IDENTIFY, &Answer { status: 2, host: 0, sense: vec![] }).is_err());
        assert!(judge(IDENTIFY, &Answer { status: 0, host: 3, sense: vec![] }).is_err());
    }

    /// A disk as the standard has it, with a password or without.
    #[derive(Default)]
    struct Pretended {
        password: Option<Vec<u8>>,
        locked: bool,
        prepared: bool,
        erased: Option<u8>,
        breaks_at: Option<u8>,
        keeps_password: bool,
        log: Vec<u8>,
    }

    impl Link for Pretended {
        fn send(&mut self, command: u8, data: Data<'_>, _: Duration) -> io::Result<()> {
            self.log.push(command);
            if self.breaks_at == Some(command) {
                self.breaks_at = None;
                return Err(io::Error::other("aborted"));
            }
            if self.keeps_password && command == DISABLE_PASSWORD {
                return Err(io::Error::other("aborted"));
            }
            let given = |bytes: &[u8]| bytes[2..34].to_vec();
            let prepared = std::mem::take(&mut self.prepared);
            match (command, data) {
                (IDENTIFY, Data::In(bytes)) => {
                    bytes[256] = 1 | u8::from(self.password.is_some()) << 1 | u8::from(self.locked) << 2;
                    return Ok(());
                }
                (SET_PASSWORD, Data::Out(bytes)) if !self.locked => self.password = Some(given(bytes)),
                (UNLOCK, Data::Out(bytes)) if self.password == Some(given(bytes)) => self.locked = false,
                (DISABLE_PASSWORD, Data::Out(bytes))
                    if !self.locked && self.password == Some(given(bytes)) =>
                {
                    self.password = None;
                }
                (ERASE_PREPARE, Data::None) => self.prepared = true,
                (ERASE_UNIT, Data::Out(bytes)) if prepared && self.password == Some(given(bytes)) => {
                    (self.erased, self.password) = (Some(bytes[0]), None);
                }
                (command, _) => return Err(io::Error::other(format!("{command:#x} refused"))),
            }
            Ok(())
        }
    }

    #[test]
    fn a_disk_is_erased_and_left_without_a_password_also_after_an_interrupted_erasing() {
        let mut disk = Pretended::default();
        erase_over(&mut disk, false).expect("erased");
        assert_eq!((disk.erased, disk.password.is_none()), (Some(0), true));
        let order = [IDENTIFY, SET_PASSWORD, ERASE_PREPARE, ERASE_UNIT, IDENTIFY, IDENTIFY];
        assert_eq!(disk.log, order, "prepare comes right before erase");
        let left_over = Some(block(0)[2..34].to_vec());
        let mut disk = Pretended { password: left_over, locked: true, ..Pretended::default() };
        erase_over(&mut disk, true).expect("unlocked and erased");
        assert_eq!((disk.erased, disk.password.is_none(), disk.locked), (Some(0b10), true, false));
    }

    #[test]
    fn a_failed_erasing_takes_its_password_away_and_a_foreign_one_is_left_alone() {
        for command in [ERASE_PREPARE, ERASE_UNIT] {
            let mut disk = Pretended { breaks_at: Some(command), ..Pretended::default() };
            assert!(erase_over(&mut disk, false).is_err());
            assert_eq!((disk.erased, disk.password), (None, None), "{command:#x}");
        }
        for locked in [true, false] {
            let mut disk = Pretended { password: Some(vec![7; 32]), locked, ..Pretended::default() };
            let refused = erase_over(&mut disk, false).expect_err("not ours").to_string();
            assert!(refused.contains("not ours"), "{refused}");
            assert_eq!((disk.password, disk.locked, disk.erased), (Some(vec![7; 32]), locked, None));
        }
    }

    #[test]
    fn a_disk_left_with_our_password_is_told_apart_with_the_way_to_open_it() {
        let broken = Pretended { breaks_at: Some(ERASE_UNIT), ..Pretended::default() };
        let mut disk = Pretended { keeps_password: true, ..broken };
        match erase_over(&mut disk, false).expect_err("still locked") {
            Trouble::Secured(text) => {
                for word in ["aborted", "\"NULL\"", "SECURITY UNLOCK"] {
                    assert!(text.contains(word), "{text}");
                }
            }
            Trouble::Io(error) => panic!("{error}"),
        }
        // with the password gone, it is a failure like another
        let mut disk = Pretended { breaks_at: Some(ERASE_UNIT), ..Pretended::default() };
        assert!(matches!(erase_over(&mut disk, false), Err(Trouble::Io(_))));
    }

    #[test]
    fn what_an_interrupted_erasing_locked_is_opened_and_a_foreign_password_is_named() {
        let ours = Some(block(0)[2..34].to_vec());
        for locked in [true, false] {
            let mut disk = Pretended { password: ours.clone(), locked, ..Pretended::default() };
            release_over(&mut disk).expect("opened");
            assert_eq!((disk.password, disk.locked), (None, false));
        }
        let mut disk = Pretended { password: Some(vec![7; 32]), locked: true, ..Pretended::default() };
        let refused = release_over(&mut disk).expect_err("not ours");
        assert!(refused.contains("locked with a foreign password"), "{refused}");
        let mut disk = Pretended::default();
        release_over(&mut disk).expect("nothing to do");
        assert_eq!(disk.log, [IDENTIFY]);
    }
}
