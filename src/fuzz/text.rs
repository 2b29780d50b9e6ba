//! What people write: URLs, settings, names.

use crate::config::{ClientConfig, ConfigFile, ServeConfig, Sources};
use crate::store::{ObjectPath, StoreUrl};
use crate::types::{ByteCount, GroupId, TopicName};

/// Reads a text as everything that a text may be.
pub(super) fn text(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let url = text.parse::<StoreUrl>();
    if let Ok(url) = &url {
        assert_eq!(url.to_string().parse().as_ref(), Ok(url));
    }
    let path = text.parse::<ObjectPath>();
    if let Ok(path) = &path {
        assert_eq!(path.as_str(), text);
        path.kind();
    }
    let size = text.parse::<ByteCount>();
    if let Ok(size) = size {
        let _ = (size.to_string(), size + size, size - ByteCount(1));
    }
    let name = TopicName::new(text);
    let _ = (GroupId::new(text).err(), name.as_ref().err())
        .0
        .map(|e| e.to_string());
    url.is_ok() || path.is_ok() || size.is_ok() || config(text)
}

/// Reads a text as a configuration file, and if it is none as the value of every setting.
fn config(text: &str) -> bool {
    let file = ConfigFile::parse("weir.toml", text);
    let mut sources = Sources::default();
    let understood = file.is_ok();
    match file {
        Ok(file) => sources.file = Some(file),
        Err(error) => {
            let line = error.to_string();
            assert!(line.len() < 4096, "an error of {} bytes", line.len());
            let keys = [
                "COMMIT_INTERVAL",
                "SEGMENT_SIZE",
                "KAFKA",
                "ADVERTISE",
                "STORE",
            ];
            // One at a time: the first that is wrong ends the loading.
            for key in keys {
                sources.environment = [(format!("WEIR_{key}"), text.to_owned())].into();
                let _ = ServeConfig::load(&sources).map_err(|error| error.to_string());
            }
        }
    }
    let _ = ServeConfig::load(&sources).map_err(|error| error.to_string());
    let _ = ClientConfig::load(&sources).map_err(|error| error.to_string());
    understood
}
