#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::io::Write as _;

use super::{Loaded, Source};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn env(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn refusal(file_text: &str, environment: &[(&str, &str)], sets: &[&str]) -> String {
    let file = file(file_text);
    let sets: Vec<_> = sets.iter().map(|&one| one.to_owned()).collect();
    Loaded::read(Some(file.path()), env(environment), &sets).expect_err("must be refused").to_string()
}

#[test]
fn without_anything_the_defaults_hold() {
    let loaded = Loaded::read(None, [], &[]).unwrap();
    assert_eq!((loaded.config.api.host_ip.as_str(), loaded.config.api.port), ("127.0.0.1", 6385));
    assert!(loaded.config.agent.require_tls);
    assert_eq!(loaded.source("api", "port"), Source::Default);
}

#[test]
fn set_wins_over_environment_over_file_over_default() {
    let file = file("[api]\nport = 1\nmax_limit = 1\nhost_ip = \"127.0.0.9\"\n");
    let environment =
        env(&[("FERRIC_API__PORT", "2"), ("FERRIC_API__MAX_LIMIT", "2"), ("FERRIC_LOG", "info")]);
    let loaded = Loaded::read(Some(file.path()), environment, &["api.port=3".to_owned()]).unwrap();
    assert_eq!((loaded.config.api.port, loaded.config.api.max_limit), (3, 2));
    assert_eq!(loaded.config.api.host_ip, "127.0.0.9");
    assert_eq!(loaded.source("api", "port"), Source::Set);
    assert_eq!(loaded.source("api", "max_limit"), Source::Environment("FERRIC_API__MAX_LIMIT".to_owned()));
    assert_eq!(loaded.source("api", "host_ip"), Source::File(file.path().to_owned()));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let text = refusal("[conductor]\nautomated_claen = true\n", &[], &[]);
    assert!(
        text.contains("conductor.automated_claen")
            && text.contains("did you mean conductor.automated_clean?"),
        "{text}"
    );
    let text = refusal("", &[("FERRIC_API__PROT", "1")], &[]);
    assert!(text.contains("did you mean api.port?") && text.contains("FERRIC_API__PROT"), "{text}");
    let text = refusal("", &[], &["condutcor.host=a"]);
    assert!(text.contains("did you mean [conductor]?"), "{text}");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    let text = refusal("[deploy]\nhttp_url = \"http://a\"\n", &[], &[]);
    assert!(text.contains("did you mean http.http_url?"), "{text}");
    let text = refusal("port = 1\n", &[], &[]);
    assert!(text.contains("[api]"), "{text}");
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_the_right_one() {
    assert!(refusal("[api]\nport = 70000\n", &[], &[]).contains("whole number from 0 to 65535"));
    assert!(refusal("[dhcp]\nmode = \"on\"\n", &[], &[]).contains("off, full, proxy"));
    assert!(refusal("", &[], &["api.port"]).contains("section.key=value"));
    assert!(refusal("", &[], &["dhcp.mode=full"]).contains("dhcp.interface"));
    assert!(
        refusal("", &[], &["hardware.enabled_hardware_types=ilo"])
            .contains("ipmi, redfish, manual-management")
    );
    let near = refusal("", &[], &["hardware.enabled_hardware_types=pxe_ipmitol"]);
    assert!(near.contains("did you mean 'pxe_ipmitool'?") && near.contains("fake_pxe"), "{near}");
    for wrong in ["fake.power_delay=soon", "fake.power_delay=5,3", "fake.power_delay=-1"] {
        assert!(refusal("", &[], &[wrong]).contains("5 or 3,10"), "{wrong}");
    }
    assert!(
        refusal("", &[], &["conductor.clean_step_priority_override=erase:5"])
            .contains("deploy.erase_devices")
    );
    assert!(refusal("", &[], &["conductor.rescue_password_hash_algorithm=md5"]).contains("sha256, sha512"));
    assert!(refusal("", &[], &["api.disallow_clean_steps=send_raw"]).contains("vendor.send_raw"));
    assert!(refusal("", &[], &["conductor.file_url_allowed_paths=images"]).contains("begin with /"));
    assert!(refusal("[api\n", &[], &[]).contains("not TOML"));
}

#[test]
fn a_refusal_does_not_repeat_a_secret() {
    let text = refusal("", &[], &["database.conection=postgres://u:hunter2@h/d"]);
    assert!(!text.contains("hunter2"), "{text}");
    let text = refusal("", &[], &["database=postgres://u:hunter2@h/d"]);
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn show_masks_passwords_and_names_the_source_of_each_value() {
    for secret in ["postgres://u:hunter2@h/d", "postgres://h/d?user=u&password=hunter2"] {
        let loaded = Loaded::read(None, [], &[format!("database.connection={secret}")]).unwrap();
        let shown = loaded.show(true);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!format!("{loaded:?}").contains("hunter2"));
        assert_eq!(loaded.config.database.connection.unwrap().reveal(), secret);
        let line = shown.lines().find(|line| line.starts_with("connection")).unwrap();
        assert!(line.contains("******") && line.ends_with("# --set"), "{line}");
    }
}

#[test]
fn what_show_prints_can_be_read_again() {
    let first =
        Loaded::read(None, [], &["api.max_limit=7".to_owned(), "ipmi.min_command_interval=0.5".to_owned()])
            .unwrap();
    let file = file(&first.show(true));
    let second = Loaded::read(Some(file.path()), [], &[]).unwrap();
    assert_eq!(second.config.api.max_limit, 7);
    assert_eq!(second.config.ipmi.min_command_interval, std::time::Duration::from_millis(500));
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
}

#[test]
fn lists_are_read_from_toml_and_from_text() {
    let loaded =
        Loaded::read(None, [], &["hardware.enabled_hardware_types=ipmi, fake-hardware".to_owned()]).unwrap();
    assert_eq!(loaded.config.hardware.enabled_hardware_types, ["ipmi", "fake-hardware"]);
}

#[test]
fn a_database_password_is_not_told_by_what_refuses_the_address() {
    for bad in ["postgres://u:pa/ss@h/d", "postgres://u:p@ss@h/d", "host=db password=secret"] {
        let sets = vec![format!("database.connection={bad}")];
        let error = Loaded::read(None, [], &sets).expect_err("refused").to_string();
        assert!(error.contains("database.connection"), "{error}");
        assert!(!error.contains("ss@") && !error.contains("secret") && !error.contains("pa/"), "{error}");
    }
    let good = vec!["database.connection=postgres://u:p%40ss@h:5432/d?sslmode=disable".to_owned()];
    Loaded::read(None, [], &good).expect("taken");
}

#[test]
fn a_line_that_is_not_toml_is_named_and_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ferric.toml");
    std::fs::write(&path, "[api]\nport = 1\n[database]\nconnection = postgres://u:secret@h/d\n")
        .expect("written");
    let error = Loaded::read(Some(&path), [], &[]).expect_err("refused").to_string();
    assert!(error.contains("line 4") && !error.contains("secret"), "{error}");
}

#[test]
fn priorities_of_steps_are_read_as_a_table_a_list_and_text() {
    let table =
        "[conductor]\nclean_step_priority_override = { \"deploy.erase_devices\" = 0, \"raid.create\" = 5 }\n";
    let list =
        "[conductor]\nclean_step_priority_override = [\"deploy.erase_devices:0\", \"raid.create:5\"]\n";
    let text = "conductor.clean_step_priority_override=deploy.erase_devices:0, raid.create:5".to_owned();
    let (table, list) = (file(table), file(list));
    for loaded in [
        Loaded::read(Some(table.path()), [], &[]).unwrap(),
        Loaded::read(Some(list.path()), [], &[]).unwrap(),
        Loaded::read(None, [], &[text]).unwrap(),
    ] {
        let all = &loaded.config.conductor.clean_step_priority_override.0;
        assert_eq!(
            all.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(),
            [("deploy.erase_devices", 0), ("raid.create", 5)]
        );
        let shown = file(&loaded.show(false));
        let again = Loaded::read(Some(shown.path()), [], &[]).unwrap();
        assert_eq!(&again.config.conductor.clean_step_priority_override.0, all);
    }
    for bad in ["deploy.erase_devices", "deploy.erase_devices:-1", "erase:1", ".x:1", "deploy.x:many"] {
        refusal("", &[], &[&format!("conductor.clean_step_priority_override={bad}")]);
    }
}

#[test]
fn a_release_can_be_pinned_that_there_was() {
    let loaded = Loaded::read(None, [], &["api.pin_release_version=18.2".to_owned()]).unwrap();
    assert_eq!(loaded.config.api.pin_release_version.as_deref(), Some("18.2"));
    let text = refusal("[api]\npin_release_version = \"18.9\"\n", &[], &[]);
    assert!(text.contains("18.9") && text.contains("18.2") && text.contains("39.0"), "{text}");
}

#[test]
fn interfaces_that_nothing_is_called_are_refused_with_the_nearest() {
    let text = refusal("", &[], &["hardware.default_deploy_interface=dirct"]);
    assert!(text.contains("default_deploy_interface") && text.contains("did you mean 'direct'?"), "{text}");
    let text = refusal("[hardware]\nenabled_raid_interfaces = [\"foo\", \"fake\"]\n", &[], &[]);
    assert!(text.contains("enabled_raid_interfaces names 'foo'") && text.contains("no-raid"), "{text}");
    let text = refusal("", &[], &["hardware.enabled_raid_interfaces=foo"]);
    assert!(text.contains("enabled_raid_interfaces names 'foo'"), "{text}");
}

#[test]
fn kinds_of_sensors_that_there_are_not_are_refused_with_the_nearest() {
    let text = refusal("[sensor_data]\ndata_types = [\"Fan\", \"Temprature\"]\n", &[], &[]);
    assert!(text.contains("names 'Temprature'") && text.contains("did you mean 'Temperature'?"), "{text}");
    let good = "sensor_data.data_types=temperature,Power Supply,OEM (0xC1)".to_owned();
    Loaded::read(None, [], &[good]).unwrap();
}

#[test]
fn a_default_that_no_node_could_get_is_refused() {
    let fake =
        ["hardware.enabled_deploy_interfaces=fake,ramdisk", "hardware.default_deploy_interface=direct"];
    let text = refusal("", &[], &fake);
    assert!(text.contains("is not enabled") && text.contains("fake, ramdisk"), "{text}");
    let ipmi = ["hardware.enabled_hardware_types=ipmi", "hardware.default_power_interface=redfish"];
    let text = refusal("", &[], &ipmi);
    assert!(text.contains("none of the enabled hardware types (ipmi)"), "{text}");
    let text = refusal("", &[], &["hardware.default_deploy_interface=iscsi"]);
    assert!(text.contains("only where hardware.enabled_deploy_interfaces names it"), "{text}");
    let good = ["hardware.enabled_deploy_interfaces=fake,direct", "hardware.default_deploy_interface=direct"];
    Loaded::read(None, [], &good.map(str::to_owned)).unwrap();
}

#[test]
fn a_list_is_taken_as_show_prints_it() {
    let given = "hardware.enabled_hardware_types=[\"redfish\", 'ipmi']".to_owned();
    let loaded = Loaded::read(None, [], &[given]).unwrap();
    assert_eq!(loaded.config.hardware.enabled_hardware_types, ["redfish", "ipmi"]);
    // what a shell leaves of quotes, and what is no list of texts
    for wrong in ["[redfish]", "[1]", "[\"a\"", "[\"a\"]\nother = 1\nlist2 = [\"x\""] {
        let text = refusal("", &[], &[&format!("hardware.enabled_hardware_types={wrong}")]);
        assert!(text.contains("must be a list of texts, a,b or a TOML array"), "{wrong}: {text}");
    }
}

#[test]
fn options_of_ironics_default_section_are_sent_to_their_place() {
    for (key, place) in [
        ("auth_strategy", "auth_strategy is [auth] strategy here"),
        ("enabled_hardware_types", "[hardware] enabled_hardware_types"),
        ("enabled_drivers", "[hardware] enabled_hardware_types, which takes classic drivers"),
        ("host", "[conductor] host"),
        ("pin_release_version", "[api] pin_release_version"),
        ("transport_url", "transport_url is in none"),
    ] {
        let text = refusal(&format!("[DEFAULT]\n{key} = \"x\"\n"), &[], &[]);
        assert!(text.contains("[DEFAULT]") && text.contains(place), "{text}");
    }
    let text = refusal("", &[("FERRIC_DEFAULT__AUTH_STRATEGY", "noauth")], &[]);
    assert!(text.contains("[auth] strategy"), "{text}");
}
