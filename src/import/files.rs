//! The files of one call, which can be read more than once: what is no regular file is copied aside first.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::report::Place;
use super::{ImportError, ImportFile};

pub(super) struct Files(Vec<Source>);

struct Source {
    name: String,
    content: Content,
}

enum Content {
    Path(PathBuf),
    /// A pipe's content, in a file without a name.
    Spooled(File),
    Text(Vec<u8>),
}

/// A file ready to be read from its beginning.
pub(super) struct Opened<'a>(pub Box<dyn Read + 'a>);

impl Files {
    /// Makes sure that each can be read; the error names the one that cannot.
    pub(super) fn open(files: &[ImportFile]) -> Result<Self, ImportError> {
        refuse_twice(files)?;
        let sources = files.iter().map(|file| match file {
            ImportFile::Text { name, text } => Ok(Source { name: name.clone(), content: Content::Text(text.clone()) }),
            ImportFile::Path(path) => {
                let name = path.display().to_string();
                match open(path) {
                    Ok(content) => Ok(Source { name, content }),
                    Err(error) => Err(ImportError::Unreadable(name, error)),
                }
            }
        });
        Ok(Self(sources.collect::<Result<_, _>>()?))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn name(&self, file: usize) -> &str {
        self.0.get(file).map_or("", |source| &source.name)
    }

    /// Where the files are that a record names: beside its own, or in the working directory.
    pub(super) fn folder(&self, file: usize) -> PathBuf {
        match self.0.get(file).map(|source| &source.content) {
            Some(Content::Path(path)) => path.parent().map(Path::to_owned).unwrap_or_default(),
            _ => PathBuf::new(),
        }
    }

    /// `file:line`, as messages name a place.
    pub(super) fn name_place(&self, place: Place) -> String {
        format!("{}:{}", self.name(place.file), place.line)
    }

    pub(super) fn reader(&self, file: usize) -> io::Result<Opened<'_>> {
        let reader: Box<dyn Read> = match &self.0[file].content {
            Content::Path(path) => Box::new(File::open(path)?),
            Content::Text(text) => Box::new(text.as_slice()),
            Content::Spooled(file) => {
                let mut file = file;
                file.seek(SeekFrom::Start(0))?;
                Box::new(file)
            }
        };
        Ok(Opened(reader))
    }
}

/// Refuses a call that names a file twice, whatever it calls it: each of its records would be there twice.
fn refuse_twice(files: &[ImportFile]) -> Result<(), ImportError> {
    let mut known: HashMap<PathBuf, &Path> = HashMap::new();
    for file in files {
        let ImportFile::Path(path) = file else { continue };
        // What has no path of its own, such as a pipe, is known by its name.
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(first) = known.insert(real, path) {
            return Err(ImportError::NamedTwice(first.display().to_string(), path.display().to_string()));
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Content> {
    if path == Path::new("-") {
        return Err(io::Error::other("for standard input use /dev/stdin"));
    }
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if metadata.is_file() {
        return Ok(Content::Path(path.to_owned()));
    }
    let mut spooled = tempfile::tempfile()?;
    io::copy(&mut file, &mut spooled)?;
    Ok(Content::Spooled(spooled))
}
