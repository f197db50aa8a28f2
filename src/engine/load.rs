//! `image load`: the archive is read by a thread of its own, while this one tells how far it is.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::engine::Engine;
use crate::engine::cancel::Cancel;
use crate::engine::error::EngineError;
use crate::engine::event::{Event, EventKind, EventSink, Subject};
use crate::engine::linux::tell_layer;
use crate::engine::store::platform_option;
use crate::images::{BlobState, Digest, Loaded, Reference};

/// Of an archive, between two words about it.
const TOLD_BYTES: u64 = 1 << 20;

/// An image that was loaded, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// `sha256:…`
    pub id: String,
    /// Its names, as people write them.
    pub names: Vec<String>,
    /// Names that another image had until now, and its id.
    pub replaced: Vec<(String, String)>,
}

/// An archive of images.
pub struct Archive {
    /// As it was typed.
    pub name: String,
    /// Its content.
    pub source: Box<dyn Read + Send>,
    /// Its length, where that is known.
    pub size_bytes: Option<u64>,
}

/// What the thread says.
enum Word {
    /// So many bytes of the archive have been read.
    Read(u64),
    /// Where a layer of an image stands.
    Layer(String, Digest, BlobState),
}

impl Engine {
    /// Loads the images of an archive. Where that is given up, nothing of it is in use, and the next command removes what there is.
    pub async fn load_images(
        &self,
        archive: Archive,
        platform: Option<&str>,
        events: &dyn EventSink,
        cancel: &Cancel,
    ) -> Result<Vec<LoadedImage>, EngineError> {
        let platform = platform.map(platform_option).transpose()?;
        let subject = Subject::Archive(archive.name);
        let emit = |kind| {
            let subject = subject.clone();
            events.emit(Event { subject, kind });
        };
        let (words, mut heard) = mpsc::unbounded_channel();
        let (sender, mut result) = oneshot::channel();
        let source = Counted {
            source: archive.source,
            done_bytes: 0,
            told_bytes: 0,
            words: words.clone(),
        };
        let images = Arc::clone(&self.images);
        let reading = std::thread::Builder::new().spawn(move || {
            let told = |image: &str, layer: &Digest, state| {
                // Nobody listens any more where it was given up.
                let _unheard = words.send(Word::Layer(image.to_owned(), layer.clone(), state));
            };
            let _unheard = sender.send(images.load(source, platform.as_ref(), &told));
        });
        reading.map_err(|source| EngineError::System {
            attempted: "start a thread that reads the archive".to_owned(),
            source,
        })?;
        emit(EventKind::Started("Loading"));
        let mut told = BTreeMap::new();
        let mut hear = |word| match word {
            Word::Read(done) => emit(EventKind::Progress {
                verb: "Reading",
                done,
                total: archive.size_bytes,
            }),
            Word::Layer(image, layer, state) => {
                let told = told.entry(image.clone()).or_default();
                tell_layer(&image, &layer, state, told, events);
            }
        };
        let done = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(EngineError::Interrupted),
                Some(word) = heard.recv() => hear(word),
                done = &mut result => break done,
            }
        };
        while let Ok(word) = heard.try_recv() {
            hear(word);
        }
        let loaded = done.map_err(|_| EngineError::System {
            attempted: "load images".to_owned(),
            source: std::io::Error::other("the thread that did it panicked"),
        })?;
        match &loaded {
            Ok(_) => emit(EventKind::Finished("Loaded")),
            Err(error) => emit(EventKind::Failed(crate::engine::chain(error))),
        }
        Ok(loaded?.iter().map(in_words).collect())
    }
}

fn in_words(image: &Loaded) -> LoadedImage {
    LoadedImage {
        id: image.id.to_string(),
        names: image.names.iter().map(Reference::familiar).collect(),
        replaced: image
            .replaced
            .iter()
            .map(|(name, id)| (name.familiar(), id.to_string()))
            .collect(),
    }
}

/// Tells how much has been read, now and then.
struct Counted {
    source: Box<dyn Read + Send>,
    done_bytes: u64,
    told_bytes: u64,
    words: mpsc::UnboundedSender<Word>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.done_bytes += length as u64;
        if length == 0 || self.done_bytes - self.told_bytes >= TOLD_BYTES {
            self.told_bytes = self.done_bytes;
            let _unheard = self.words.send(Word::Read(self.done_bytes));
        }
        Ok(length)
    }
}
