//! Images that lie on the conductor's host: linked below the HTTP root, so that an agent can fetch them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use uuid::Uuid;

use crate::boot::folder::{blocking, io_error, remove};
use crate::boot::images::{ImageCache, Source};
use crate::error::DriverError;
use crate::interface::Result;

/// Where local images may come from and how machines reach them.
#[derive(Clone, Debug)]
pub struct ServedFiles {
    /// `[conductor] file_url_allowed_paths`: folders that `file://` images may lie in.
    pub allowed: Vec<PathBuf>,
    /// `[deploy] http_root`.
    pub http_root: PathBuf,
    /// `[deploy] http_url`.
    pub http_url: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Served {
    settings: ServedFiles,
    cache: ImageCache,
}

impl Served {
    pub(super) fn new(settings: ServedFiles) -> Served {
        // nothing is downloaded here; copies that nobody links to go away after a day
        let day = Duration::from_secs(24 * 3600);
        let cache = ImageCache::new(&settings.http_root, Duration::from_secs(60), day);
        Served { settings, cache }
    }

    /// Checks without touching the file. Errors: `Invalid` for a place that is not allowed.
    pub(super) fn check(&self, url: &Url) -> Result<PathBuf> {
        let path = url.to_file_path().map_err(|()| refused("it is not a path of this host".into()))?;
        self.allow(&path)?;
        Ok(path)
    }

    fn allow(&self, path: &Path) -> Result<()> {
        if self.settings.allowed.iter().any(|folder| path.starts_with(folder)) {
            return Ok(());
        }
        let all: Vec<String> =
            self.settings.allowed.iter().map(|folder| folder.display().to_string()).collect();
        Err(refused(format!(
            "{} is not in one of the folders that file:// images may lie in: {} ([conductor] \
             file_url_allowed_paths)",
            path.display(),
            all.join(", ")
        )))
    }

    /// Links the image and gives its URL.
    pub(super) async fn serve(&self, node: Uuid, url: &Url) -> Result<Url> {
        let path = self.check(url)?;
        let real = blocking({
            let path = path.clone();
            move || std::fs::canonicalize(&path).map_err(|error| io_error(&path, &error))
        })
        .await?;
        // a link must not lead out of what is allowed, unless the allowed folder itself is the link
        if !self
            .settings
            .allowed
            .iter()
            .any(|folder| std::fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder)))
        {
            self.allow(&real)?;
        }
        let target = self.place(node);
        if let Some(folder) = target.parent().map(Path::to_owned) {
            tokio::fs::create_dir_all(&folder).await.map_err(|error| io_error(&folder, &error))?;
        }
        self.cache.provide(&Source::File(real), target).await?;
        let base = self.settings.http_url.trim_end_matches('/');
        Url::parse(&format!("{base}/agent_images/{node}")).map_err(|error| DriverError::Invalid {
            section: "[deploy]",
            key: "http_url".into(),
            reason: error.to_string(),
        })
    }

    /// Takes the link away. Idempotent.
    pub(super) async fn forget(&self, node: Uuid) -> Result<()> {
        let target = self.place(node);
        blocking(move || remove(&target).map_err(|error| io_error(&target, &error))).await
    }

    fn place(&self, node: Uuid) -> PathBuf {
        self.settings.http_root.join("agent_images").join(node.to_string())
    }
}

fn refused(reason: String) -> DriverError {
    DriverError::Invalid { section: "instance_info", key: "image_source".into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_local_image_is_served_from_allowed_folders_only() {
        let dir = tempfile::tempdir().unwrap();
        let (own, http) = (dir.path().join("own"), dir.path().join("http"));
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(&http).unwrap();
        std::fs::write(own.join("disk.img"), "image").unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), own.join("way-out")).unwrap();
        let served = Served::new(ServedFiles {
            allowed: vec![own.clone()],
            http_root: http.clone(),
            http_url: "http://10.0.0.1:8080/".into(),
        });
        let node = Uuid::from_u128(7);
        let url = |path: PathBuf| Url::from_file_path(path).unwrap();
        let given = served.serve(node, &url(own.join("disk.img"))).await.unwrap();
        assert_eq!(given.as_str(), format!("http://10.0.0.1:8080/agent_images/{node}"));
        let place = http.join("agent_images").join(node.to_string());
        assert_eq!(std::fs::read_to_string(&place).unwrap(), "image");
        for _ in 0..2 {
            served.forget(node).await.unwrap();
            assert!(!place.exists());
        }
        for bad in [dir.path().join("secret"), own.join("way-out"), own.join("../secret")] {
            let error = served.serve(node, &url(bad)).await.unwrap_err();
            assert!(error.to_string().contains("file_url_allowed_paths"), "{error}");
        }
        assert!(!place.exists());
    }
}
