//! The kickstart file of deploy interface `anaconda`.

use minijinja::{Environment, UndefinedBehavior};
use reqwest::Url;
use serde_json::{Value, json};

use crate::error::DriverError;
use crate::interface::Result;

/// What is used where neither node nor configuration names a template.
const DEFAULT: &str = include_str!("ks.cfg.j2");

/// How many instructions a template may take; the default one takes a few hundred.
const FUEL: u64 = 200_000;

/// What a template may name, as `ks_options.…`.
pub(super) struct KsOptions<'a> {
    /// `liveimg_url`: the image, or the folder of a repository.
    pub(super) source: &'a Url,
    /// `agent_token`.
    pub(super) token: &'a str,
    /// `heartbeat_url`.
    pub(super) heartbeat: &'a str,
    /// Whether the certificate of the API is not checked (`insecure_heartbeat`).
    pub(super) insecure: bool,
    /// base64 of a gzipped image, or its URL.
    pub(super) config_drive: Option<&'a str>,
}

/// Whether the source is a folder and no image; `is_source_a_path` for templates.
pub(super) fn is_folder(source: &Url) -> bool {
    source.path().ends_with('/')
}

/// Fills in the template, the default one with `None`.
/// Errors: `Invalid` when it is no template, or names what does not exist.
pub(super) fn render(template: Option<&str>, options: &KsOptions<'_>) -> Result<String> {
    let invalid = |error: &minijinja::Error| DriverError::Invalid {
        section: "instance_info",
        key: "ks_template".into(),
        // the error's own text shows the line, which may hold a secret; its kind does not
        reason: match error.line() {
            Some(line) => format!("line {line}: {}", error.kind()),
            None => error.kind().to_string(),
        },
    };
    let mut all = json!({
        "liveimg_url": options.source.as_str(),
        "agent_token": options.token,
        "heartbeat_url": options.heartbeat,
        "config_drive": options.config_drive.map(config_drive).unwrap_or_default(),
    });
    for (status, text) in [
        ("start", "Deployment starting. Running pre-installation scripts."),
        ("error", "Error: Deploying using anaconda. Check console for more information."),
        ("end", "Deployment completed successfully."),
    ] {
        all[format!("report_{status}")] = json!(report(options, status, text));
    }
    if options.insecure {
        all["insecure_heartbeat"] = json!("true");
    }
    if is_folder(options.source) {
        all["is_source_a_path"] = json!("true");
    }
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    // a template may come from anywhere, and it runs in our process
    environment.set_fuel(Some(FUEL));
    environment.set_keep_trailing_newline(true);
    let template = template.unwrap_or(DEFAULT);
    let text = environment.render_str(template, json!({"ks_options": all}));
    text.map_err(|error| invalid(&error))
}

/// The command that tells the API how the installation goes.
fn report(options: &KsOptions<'_>, status: &str, text: &str) -> String {
    let body: Value = json!({
        "callback_url": "",
        "agent_token": options.token,
        "agent_status": status,
        "agent_status_message": text,
    });
    let insecure = if options.insecure { " --insecure" } else { "" };
    format!(
        "curl{insecure} --retry 5 -X POST -H 'Content-Type: application/json' -H 'Accept: application/json' \
         -H 'X-OpenStack-Ironic-API-Version: 1.72' -d '{body}' '{}'",
        options.heartbeat
    )
}

/// A section that unpacks the config drive to where cloud-init looks for one without a disk.
fn config_drive(drive: &str) -> String {
    let fetch = if drive.starts_with("http://") || drive.starts_with("https://") {
        format!("curl --fail --location '{}' > /tmp/config-drive.packed\n", drive.replace('\'', "%27"))
    } else {
        let digits: Vec<char> = drive.chars().filter(char::is_ascii_graphic).collect();
        let lines: Vec<String> = digits.chunks(76).map(|line| line.iter().collect()).collect();
        format!("cat > /tmp/config-drive.packed << 'END_OF_DRIVE'\n{}\nEND_OF_DRIVE\n", lines.join("\n"))
    };
    format!(
        "%post --erroronfail\nset -e\n{fetch}\
         (base64 -d /tmp/config-drive.packed | gunzip -c > /tmp/config-drive) 2> /dev/null ||\n  \
         gunzip -c /tmp/config-drive.packed > /tmp/config-drive\n\
         mkdir -p /tmp/config-drive.d /var/lib/cloud/seed/config_drive\n\
         mount -o loop,ro /tmp/config-drive /tmp/config-drive.d\n\
         cp -r /tmp/config-drive.d/. /var/lib/cloud/seed/config_drive/\n\
         umount /tmp/config-drive.d\n\
         chmod -R go-rwx /var/lib/cloud/seed/config_drive\n\
         rm -rf /tmp/config-drive /tmp/config-drive.packed /tmp/config-drive.d\n%end\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(source: &Url) -> KsOptions<'_> {
        KsOptions {
            source,
            token: "geheim",
            heartbeat: "http://10.0.0.1:6385/v1/heartbeat/u",
            insecure: false,
            config_drive: None,
        }
    }

    #[test]
    fn the_default_file_installs_reports_and_unpacks_the_config_drive() {
        let image = Url::parse("http://img/os.squashfs").unwrap();
        let text = render(None, &options(&image)).unwrap();
        assert!(text.contains("\nliveimg --url=\"http://img/os.squashfs\"\n"), "{text}");
        assert!(!text.contains("\nurl ") && !text.contains("{%") && !text.contains("--insecure"), "{text}");
        for status in ["start", "error", "end"] {
            assert!(text.contains(&format!(r#""agent_status":"{status}""#)), "{text}");
        }
        assert_eq!(text.matches("'http://10.0.0.1:6385/v1/heartbeat/u'").count(), 3);
        assert_eq!(text.matches("%end").count(), 3);
        let (before, end) = text.rsplit_once("%post").unwrap();
        assert!(end.contains(r#""agent_status":"end""#), "the report is the last thing: {end}");
        assert!(!before.contains(r#""agent_status":"end""#));

        let folder = Url::parse("http://img/repo/").unwrap();
        let drive = "QUJD".repeat(40);
        let with_drive = KsOptions { insecure: true, config_drive: Some(&drive), ..options(&folder) };
        let text = render(None, &with_drive).unwrap();
        assert!(text.contains("\nurl --url=\"http://img/repo/\"\n%packages"), "{text}");
        assert_eq!(text.matches("curl --insecure").count(), 3);
        assert!(
            text.contains(&format!("{}\n", &drive[..76])) && text.contains("seed/config_drive"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.len() < 500));
        let url = KsOptions { config_drive: Some("http://x/drive"), ..options(&folder) };
        assert!(render(None, &url).unwrap().contains("curl --fail --location 'http://x/drive'"));
    }

    #[test]
    fn templates_written_for_ironic_work() {
        let image = Url::parse("http://img/os.img").unwrap();
        let template = "{% if 'is_source_a_path' in ks_options -%}\nurl --url {{ks_options.liveimg_url }}\n{% else -%}\n\
                        liveimg --url {{ ks_options.liveimg_url }}\n{% endif -%}\n\
                        curl {% if 'insecure_heartbeat' in ks_options %}--insecure{% endif %} -d \
                        '{\"agent_token\": \"{{ ks_options.agent_token }}\"}' {{ ks_options.heartbeat_url }}\n\
                        {{ ks_options.config_drive }}\n";
        let text = render(Some(template), &options(&image)).unwrap();
        assert!(text.contains("liveimg --url http://img/os.img\n"), "{text}");
        assert!(
            text.contains("{\"agent_token\": \"geheim\"}' http://10.0.0.1:6385/v1/heartbeat/u"),
            "{text}"
        );
    }

    #[test]
    fn a_template_that_cannot_be_filled_in_is_refused_without_showing_it() {
        let image = Url::parse("http://img/os.img").unwrap();
        for template in ["{{ ks_options.colour }}", "{% if %}", "rootpw geheim {{ nothing.at.all }}"] {
            let error = render(Some(template), &options(&image)).unwrap_err().to_string();
            assert!(error.contains("ks_template") && !error.contains("geheim"), "{error}");
        }
    }
}
