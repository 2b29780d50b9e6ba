//! The file store: objects as files of one directory, safe against power loss and for several processes.
//!
//! Reading, listing and deleting are `object_store`'s. Writing is ours, for `LocalFileSystem` (0.14.2,
//! `with_fsync`) leaves three gaps, each a way to lose or invent data when the power fails:
//!
//! * it syncs the entries of a new directory only in the process that made it, so a second process can
//!   acknowledge a write into a directory which is not yet on the disk;
//! * a link is visible before the directory that holds it is synced, so another process can read, and
//!   serve, what a power loss then takes away;
//! * a crash leaves half-written files beside the objects, for ever.
//!
//! Here an object is written to `.staging/{uuid}`, synced, and **linked** to its name, which fails if the
//! name exists (create-if-absent, atomic) or **renamed** to it (overwrite). Then the directory is synced,
//! and only then the staging name removed. So as long as an object has two names its creation is not
//! known to be on the disk, and a reader who meets one syncs the directory itself before it returns the
//! bytes. Nobody ever sees a half-written object, since names lead only to complete, synced files.
//!
//! A large object comes in parts, which are written to their places in one staging file, in any order, and synced;
//! the end renames it. Its name is unique, so a rename does as well as a link.
//!
//! What a crash leaves in `.staging` has no effect; what is older than an hour is removed at the next
//! start, after a sync of the directories.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use uuid::Uuid;

use crate::env::Env;
use crate::types::Timestamp;

use super::error::Cause;
use super::failure::{Judged, Verdict, judge_io};
use super::upload::PART_LEN;

const STORE: &str = "file";
const STAGING: &str = ".staging";

/// How old a staging file must be before it is taken for one that a crash left. Removing one that is still
/// in use only fails that write.
const LEFTOVER: Duration = Duration::from_secs(60 * 60);

/// A directory as an object store. See the module.
pub(super) struct FileStore {
    shared: Arc<Shared>,
    inner: LocalFileSystem,
}

struct Shared {
    root: PathBuf,
    staging: PathBuf,
    env: Env,
    /// Directories whose whole chain of entries up to the root this process has synced. There are as
    /// many as the layout has folders.
    durable: Mutex<HashSet<PathBuf>>,
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileStore({})", self.shared.root.display())
    }
}

impl FileStore {
    /// Opens the directory, making it and its parents if they are absent. Blocks.
    pub(super) fn open(directory: &FilePath, env: Env) -> io::Result<FileStore> {
        make_durable(directory)?;
        let store = FileStore::open_existing(directory, env)?;
        make_durable(&store.shared.staging)?;
        store.shared.remove_leftovers()?;
        Ok(store)
    }

    /// Opens a directory that must exist, and changes nothing in it. Blocks.
    pub(super) fn open_existing(directory: &FilePath, env: Env) -> io::Result<FileStore> {
        let root = fs::canonicalize(directory)?;
        let staging = root.join(STAGING);
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            root,
            staging,
            env,
            durable: Mutex::new(HashSet::new()),
        });
        Ok(FileStore { shared, inner })
    }
}

/// Makes a directory and its parents, and syncs every directory on the way that may have a new entry.
fn make_durable(directory: &FilePath) -> io::Result<()> {
    let absolute = std::path::absolute(directory)?;
    let existed = absolute.exists();
    let mut changed = vec![absolute.clone()];
    for ancestor in absolute.ancestors().skip(1) {
        changed.push(ancestor.to_owned());
        if ancestor.exists() {
            break;
        }
    }
    fs::create_dir_all(&absolute)?;
    for directory in &changed {
        match sync_directory(directory) {
            // Somebody else made our directory in one that we may not read, and answers for that.
            Err(error) if existed && error.kind() == ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

fn sync_directory(directory: &FilePath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl Shared {
    /// Makes the object's directory, and sees to it that every entry from the root down to it is on the
    /// disk, whoever made it.
    fn prepare(&self, directory: &FilePath) -> io::Result<()> {
        let mut known = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(directory) {
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        for ancestor in directory.ancestors() {
            sync_directory(ancestor)?;
            if ancestor == self.root {
                break;
            }
        }
        known.insert(directory.to_owned());
        Ok(())
    }

    /// Writes the payload to a synced file that has no object's name yet.
    fn stage(&self, payload: &PutPayload) -> io::Result<Staged> {
        let path = self
            .staging
            .join(self.env.random_uuid().hyphenated().to_string());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        let staged = Staged { path, keep: false };
        for part in payload {
            file.write_all(part)?;
        }
        file.sync_all()?;
        Ok(staged)
    }

    fn put(&self, target: &FilePath, payload: &PutPayload, mode: &PutMode) -> Result<()> {
        let before = |error: io::Error| failed(&error, target, false);
        let after = |error: io::Error| failed(&error, target, true);
        let directory = target.parent().unwrap_or(&self.root);
        self.prepare(directory).map_err(before)?;
        let mut staged = self.stage(payload).map_err(before)?;
        match mode {
            PutMode::Create => {
                self.link(&staged, target)?;
                if let Err(error) = sync_directory(directory) {
                    // The second name stays, and tells readers that this is not known to be durable.
                    staged.keep = true;
                    return Err(after(error));
                }
                Ok(())
            }
            PutMode::Overwrite => {
                fs::rename(&staged.path, target).map_err(before)?;
                staged.keep = true;
                sync_directory(directory).map_err(after)
            }
            PutMode::Update(_) => Err(object_store::Error::NotImplemented {
                operation: "conditional overwrite".to_owned(),
                implementer: STORE.to_owned(),
            }),
        }
    }

    fn link(&self, staged: &Staged, target: &FilePath) -> Result<()> {
        let Err(error) = fs::hard_link(&staged.path, target) else {
            return Ok(());
        };
        // A network file system that lost the first answer and asked again says that the name exists,
        // though it is ours.
        let ours =
            || Some(fs::metadata(&staged.path).ok()?.ino() == fs::metadata(target).ok()?.ino());
        match error.kind() {
            ErrorKind::AlreadyExists if ours() == Some(true) => Ok(()),
            ErrorKind::AlreadyExists => Err(object_store::Error::AlreadyExists {
                path: target.display().to_string(),
                source: Box::new(error),
            }),
            _ => Err(failed(&error, target, false)),
        }
    }

    /// Removes what crashes left behind.
    fn remove_leftovers(&self) -> io::Result<()> {
        let now = self.env.wall();
        let mut synced = false;
        for entry in fs::read_dir(&self.staging)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let age = now.since(Timestamp(metadata.mtime().saturating_mul(1000)));
            if age < LEFTOVER {
                continue;
            }
            // If it is the second name of an object, the object's directory may not be synced.
            if metadata.nlink() > 1 && !synced {
                sync_tree(&self.root)?;
                synced = true;
            }
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn sync_tree(directory: &FilePath) -> io::Result<()> {
    sync_directory(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    Ok(())
}

impl Shared {
    /// Makes the file that parts are written to.
    fn begin_parts(&self) -> Result<MultipartId> {
        let id = self.env.random_uuid().hyphenated().to_string();
        let path = self.staging.join(&id);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| failed(&error, &path, false))?;
        Ok(id)
    }

    fn staged_parts(&self, path: &Path, id: &MultipartId) -> Result<PathBuf> {
        // The id comes back from our own caller, and is still no way out of the folder.
        let id = Uuid::try_parse(id).map_err(|error| object_store::Error::NotFound {
            path: path.to_string(),
            source: Box::new(error),
        })?;
        Ok(self.staging.join(id.hyphenated().to_string()))
    }

    fn complete_parts(&self, target: &FilePath, staged: &FilePath, parts: &[PartId]) -> Result<()> {
        let before = |error: io::Error| no_upload(error, target);
        let lengths = parts.iter().map(|part| part.content_id.parse::<u64>().ok());
        let expected: Option<u64> = lengths.sum();
        let file = File::open(staged).map_err(before)?;
        let found = file.metadata().map_err(before)?.len();
        if expected != Some(found) {
            let error = io::Error::other(format!(
                "the parts make {expected:?} bytes, and {found} are there"
            ));
            return Err(failed(&error, target, false));
        }
        file.sync_all().map_err(before)?;
        let directory = target.parent().unwrap_or(&self.root);
        self.prepare(directory).map_err(before)?;
        fs::rename(staged, target).map_err(before)?;
        sync_directory(directory).map_err(|error| failed(&error, target, true))
    }
}

/// Writes a part to its place. All parts but the last are [`PART_LEN`] long, so the place follows from the number.
fn write_part(
    target: &FilePath,
    staged: &FilePath,
    number: usize,
    data: &PutPayload,
) -> Result<PartId> {
    let before = |error: io::Error| no_upload(error, target);
    let file = OpenOptions::new()
        .write(true)
        .open(staged)
        .map_err(before)?;
    let mut at = number as u64 * PART_LEN as u64;
    for piece in data {
        file.write_all_at(piece, at).map_err(before)?;
        at += piece.len() as u64;
    }
    // Part by part, so that the end has little left to sync and other writers are not held up by it.
    file.sync_data().map_err(before)?;
    Ok(PartId {
        content_id: data.content_length().to_string(),
    })
}

/// A failed step of an upload before the object is visible. Without its file there is no upload any more.
fn no_upload(error: io::Error, target: &FilePath) -> object_store::Error {
    if error.kind() == ErrorKind::NotFound {
        return object_store::Error::NotFound {
            path: target.display().to_string(),
            source: Box::new(error),
        };
    }
    failed(&error, target, false)
}

/// A file in `.staging`, removed when it is dropped.
struct Staged {
    path: PathBuf,
    /// The name is gone already, or must stay.
    keep: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is removed as a leftover later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(error: &io::Error, target: &FilePath, reached: bool) -> object_store::Error {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full: ",
        _ => "",
    };
    Judged {
        verdict: judge_io(error, reached),
        cause: Cause::new(&format!("{hint}writing {}: {error}", target.display())),
    }
    .wrap(STORE)
}

/// Runs file system calls off the runtime's threads. They run to their end even if nobody waits.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Opens an object for reading, after its directory is synced if nobody is known to have done so.
fn open_durable(location: Path, path: PathBuf, options: GetOptions) -> Result<GetResult> {
    let reading = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => object_store::Error::NotFound {
            path: location.to_string(),
            source: Box::new(error),
        },
        _ => object_store::Error::Generic {
            store: STORE,
            source: Box::new(error),
        },
    };
    let file = File::open(&path).map_err(reading)?;
    let metadata = file.metadata().map_err(reading)?;
    if metadata.nlink() > 1 {
        sync_directory(path.parent().unwrap_or(&path)).map_err(reading)?;
    }
    let size = metadata.len();
    let range = match options.range {
        None => 0..size,
        Some(range) => range.as_range(size).map_err(|error| {
            Judged {
                verdict: Verdict::OutOfRange,
                cause: Cause::of(&error),
            }
            .wrap(STORE)
        })?,
    };
    let meta = ObjectMeta {
        last_modified: metadata.modified().map_err(reading)?.into(),
        location,
        size,
        e_tag: None,
        version: None,
    };
    Ok(GetResult {
        payload: GetResultPayload::File(file, path),
        meta,
        range,
        attributes: Default::default(),
        extensions: Default::default(),
    })
}

#[async_trait]
impl ObjectStore for FileStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let target = self.inner.path_to_filesystem(location)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.put(&target, &payload, &opts.mode)).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = self.inner.path_to_filesystem(location)?;
        let location = location.clone();
        blocking(move || open_durable(location, path, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let staging = Path::from(STAGING);
        let objects = self.inner.list(prefix);
        objects
            .try_filter(move |object| {
                futures::future::ready(!object.location.prefix_matches(&staging))
            })
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unsupported("upload in parts"))
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(unsupported("copy"))
    }
}

fn unsupported(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    }
}

#[async_trait]
impl MultipartStore for FileStore {
    async fn create_multipart(&self, _path: &Path) -> Result<MultipartId> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.begin_parts()).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let target = self.inner.path_to_filesystem(path)?;
        let staged = self.shared.staged_parts(path, id)?;
        blocking(move || write_part(&target, &staged, part_idx, &data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let target = self.inner.path_to_filesystem(path)?;
        let staged = self.shared.staged_parts(path, id)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.complete_parts(&target, &staged, &parts)).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let target = self.inner.path_to_filesystem(path)?;
        let staged = self.shared.staged_parts(path, id)?;
        blocking(move || fs::remove_file(&staged).map_err(|error| no_upload(error, &target))).await
    }
}

#[cfg(test)]
mod tests;
