//! One stream of watches: it ends when its client does, never by itself.

use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::V3;
use super::keys::{self, Span};
use super::message::{Event, WatchAsk, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::base::http::server::Origin;
use crate::discovery::CROWDED;
use crate::discovery::registry::Token;
use crate::discovery::waiters::Waiter;

/// More watches than any client opens on one stream.
const MOST_WATCHES: usize = 16;
/// A token that nobody knows is watched like the largest that could be.
const LARGEST: u8 = 9;

pub type Answers = mpsc::Sender<Result<WatchResponse, Status>>;

/// What is watched on one stream; all of it lies in one token.
pub struct Watches {
    service: V3,
    origin: Origin,
    answers: Answers,
    token: Option<Watched>,
    watches: Vec<Watch>,
    next_id: i64,
}

struct Watched {
    name: String,
    place: Waiter,
}

struct Watch {
    id: i64,
    span: Span,
    /// Whatever was put at this revision or later is still to be told.
    next: i64,
}

/// The client has gone, or must.
struct Over;

impl Watches {
    pub const fn new(service: V3, origin: Origin, answers: Answers) -> Self {
        Self { service, origin, answers, token: None, watches: Vec::new(), next_id: 0 }
    }

    /// Serves the stream until its client or the service ends.
    pub async fn run(mut self, mut asked: Streaming<WatchRequest>) {
        let (answers, stop) = (self.answers.clone(), self.service.stop.clone());
        loop {
            let outcome = tokio::select! {
                asked = asked.message() => match asked {
                    Ok(Some(WatchRequest { ask: Some(ask) })) => self.take(ask).await,
                    Ok(Some(WatchRequest { ask: None })) => {
                        self.end(Status::invalid_argument("a watch request asks nothing")).await
                    }
                    Ok(None) => Err(Over),
                    Err(status) => self.end(status).await,
                },
                () = news(&mut self.token) => self.tell().await,
                () = answers.closed() => Err(Over),
                // The client comes back by itself and goes on where it was.
                () = stop.cancelled() => {
                    self.end(Status::unavailable("the discovery service is closing")).await
                }
            };
            if let Err(Over) = outcome {
                return;
            }
        }
    }

    async fn take(&mut self, ask: WatchAsk) -> Result<(), Over> {
        match ask {
            WatchAsk::Create(asked) => match self.create(asked).await? {
                Ok(()) => Ok(()),
                Err(refused) => self.refuse(&refused).await,
            },
            WatchAsk::Cancel(asked) => {
                let before = self.watches.len();
                self.watches.retain(|w| w.id != asked.watch_id);
                if self.watches.len() == before {
                    return Ok(());
                }
                let header = keys::header(self.look().await?.as_ref());
                let watch_id = asked.watch_id;
                self.send(WatchResponse { header, watch_id, canceled: true, ..Default::default() })
                    .await
            }
            // Whatever has happened was told at once, so there is nothing to wait for.
            WatchAsk::Progress(_) => {
                let header = keys::header(self.look().await?.as_ref());
                self.send(WatchResponse { header, watch_id: -1, ..Default::default() }).await
            }
        }
    }

    /// Opens one more watch, and tells what it has missed.
    async fn create(&mut self, asked: WatchCreateRequest) -> Result<Result<(), Status>, Over> {
        let span = match self.span(&asked) {
            Ok((span, token)) => {
                self.enter(token).await?;
                span
            }
            Err(refused) => return Ok(Err(refused)),
        };
        // Read after taking the place, so that no registration falls in between.
        let token = self.look().await?;
        let id = match asked.watch_id {
            0 => self.next_id,
            chosen => chosen,
        };
        self.next_id = self.next_id.max(id.saturating_add(1));
        let header = keys::header(token.as_ref());
        let now = header.as_ref().map_or(0, |h| h.revision);
        let next = if asked.start_revision > 0 { asked.start_revision } else { now + 1 };
        self.watches.push(Watch { id, span, next });
        self.send(WatchResponse { header, watch_id: id, created: true, ..Default::default() })
            .await?;
        self.tell().await.map(Ok)
    }

    /// What is asked for and the token it lies in.
    fn span(&self, asked: &WatchCreateRequest) -> Result<(Span, String), Status> {
        let span = Span::new(asked.key.clone(), asked.range_end.clone())?;
        let token = span.token()?.unwrap_or_default().to_owned();
        if self.token.as_ref().is_some_and(|known| known.name != token) {
            return Err(Status::permission_denied("a stream may watch one discovery token only"));
        }
        if self.watches.len() >= MOST_WATCHES {
            let sentence = format!("a stream may hold {MOST_WATCHES} watches");
            return Err(Status::resource_exhausted(sentence));
        }
        if asked.watch_id < 0
            || asked.watch_id != 0 && self.watches.iter().any(|w| w.id == asked.watch_id)
        {
            return Err(Status::invalid_argument("watch_id is negative or in use on this stream"));
        }
        Ok((span, token))
    }

    /// Takes a place in the crowd before the token, once for the stream.
    async fn enter(&mut self, name: String) -> Result<(), Over> {
        if self.token.is_some() {
            return Ok(());
        }
        let size = self.read(&name).await?.map_or(LARGEST, |token| token.size);
        let registry = self.service.registrar.registry();
        if let Some(place) = registry.waiters().enter(&name, size, self.origin.peer.ip()) {
            self.token = Some(Watched { name, place });
            return Ok(());
        }
        tokio::select! {
            () = self.service.clock.sleep(CROWDED) => {}
            () = self.answers.closed() => {}
            () = self.service.stop.cancelled() => {}
        }
        self.end(Status::unavailable("too many wait for this token; try again")).await
    }

    /// Tells every watch what it has not been told.
    async fn tell(&mut self) -> Result<(), Over> {
        let Some(token) = self.look().await? else { return Ok(()) };
        let header = keys::header(Some(&token));
        let now = header.as_ref().map_or(0, |h| h.revision);
        for at in 0..self.watches.len() {
            let Watch { id, span, next } = &mut self.watches[at];
            let events: Vec<Event> = keys::entries(&token)
                .filter(|kv| kv.mod_revision >= *next && span.contains(&kv.key))
                .map(|kv| Event { kind: 0, kv: Some(kv) })
                .collect();
            *next = (*next).max(now + 1);
            let (header, watch_id) = (header.clone(), *id);
            if !events.is_empty() {
                self.send(WatchResponse { header, watch_id, events, ..Default::default() }).await?;
            }
        }
        Ok(())
    }

    /// The token that is watched, as it stands now.
    async fn look(&self) -> Result<Option<Token>, Over> {
        match &self.token {
            Some(watched) => self.read(&watched.name).await,
            None => Ok(None),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Token>, Over> {
        match self.service.token(Some(name)) {
            Ok(token) => Ok(token),
            Err(status) => self.end(status).await,
        }
    }

    /// etcd's way of refusing one watch while the stream goes on.
    async fn refuse(&self, refused: &Status) -> Result<(), Over> {
        let cancel_reason = refused.message().to_owned();
        let header = keys::header(self.look().await?.as_ref());
        let answer = WatchResponse { header, watch_id: -1, cancel_reason, ..Default::default() };
        self.send(WatchResponse { created: true, canceled: true, ..answer }).await
    }

    async fn send(&self, answer: WatchResponse) -> Result<(), Over> {
        self.answers.send(Ok(answer)).await.map_err(|_| Over)
    }

    async fn end<T>(&self, status: Status) -> Result<T, Over> {
        // Whoever has gone needs no reason.
        let _gone = self.answers.send(Err(status)).await;
        Err(Over)
    }
}

/// Returns when something has happened to the token; never while there is none.
async fn news(token: &mut Option<Watched>) {
    match token {
        Some(watched) => watched.place.news().await,
        None => std::future::pending().await,
    }
}
