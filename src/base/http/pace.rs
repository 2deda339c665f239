//! Whether a client takes what it is given: what waits for it, and since when.
//!
//! Two things can wait. Bytes that the socket does not accept, which [`Wire`] sees; and, with
//! HTTP/2, parts of answers for which the client has opened no window, so that the socket never
//! sees them, which [`Paced`] bodies see: whoever is to send a part drops it once it is sent.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::room::Room;
use super::server::Body;

/// The most of an answer that is handed to a connection at once: it is what a client must take
/// within the limit to be kept, and what each stream of HTTP/2 may hold in memory.
pub(super) const PART: usize = 8 << 10;
/// Of a large answer, what a client takes within the limit: whoever takes a part now and then
/// would keep the room of all of it.
const STRIDE: usize = 1 << 20;
/// How many requests more than it lets us answer a client may call off on one connection.
const CALLED_OFF: u32 = 24;

/// However many do not take what they are sent, each has this long.
const LEAST: Duration = Duration::from_secs(2);
/// How often it is looked whether so many wait meanwhile that there is less time for each.
const LOOK: Duration = Duration::from_millis(500);

/// How many connections of a listener have something that their clients have not taken yet.
///
/// A client that is slow is waited for, but what waits is memory: the more of them there are, and
/// the less room is left for answers, the shorter each is waited for, so that they never are many
/// more than a quarter of the places, however fast new ones come.
#[derive(Debug)]
pub(super) struct Crowd {
    limit: Duration,
    most: usize,
    waiting: AtomicUsize,
    room: Arc<Room>,
}

impl Crowd {
    /// `limit`: how long a client may leave what it is sent, on a listener with so many places.
    pub fn new(limit: Duration, places: usize, room: Arc<Room>) -> Arc<Self> {
        Arc::new(Self { limit, most: (places / 4).max(1), waiting: AtomicUsize::new(0), room })
    }

    /// How long a client may leave what it is sent, as things are.
    fn limit(&self) -> Duration {
        let waiting = self.waiting.load(Ordering::Relaxed).min(self.most);
        // The first few take nothing from each other.
        let crowded = waiting.saturating_sub(1) as f64 / self.most as f64;
        // Nor does what has half of the room.
        let crowded = crowded.max(2.0 * self.room.fill() - 1.0);
        let left = 1.0 - crowded.clamp(0.0, 1.0);
        self.limit.mul_f64(left).max(LEAST.min(self.limit))
    }
}

/// What one connection's client still has to take.
#[derive(Debug)]
pub(super) struct Pace {
    crowd: Arc<Crowd>,
    state: Mutex<State>,
    waits: Notify,
    rests: Notify,
    gives_way: Notify,
}

/// What a connection is there for, as things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// No whole request has come that is not answered: it is silent, or still speaks.
    None,
    /// All its answers wait for the client, who has taken nothing of them for a while.
    Untaken,
    /// A request is being handled, or its answer taken.
    Work,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that are being read, handled or answered.
    busy: usize,
    /// Of these, those that have been read.
    whole: usize,
    /// Answers of which parts wait for the client.
    waiting: HashMap<u64, Wait>,
    /// Answers that take room.
    large: HashMap<u64, Large>,
    last: u64,
    called_off: u32,
    is_cut: bool,
}

#[derive(Debug)]
struct Wait {
    parts: usize,
    since: Instant,
}

#[derive(Debug)]
struct Large {
    since: Instant,
    strides: u32,
}

impl Pace {
    pub fn new(crowd: Arc<Crowd>) -> Arc<Self> {
        let state = Mutex::default();
        let [waits, rests, gives_way] = [(); 3].map(|()| Notify::new());
        Arc::new(Self { crowd, state, waits, rests, gives_way })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come.
    pub fn asked(self: &Arc<Self>) -> Answering {
        let mut state = self.state();
        state.busy += 1;
        state.last += 1;
        let (pace, number) = (Arc::clone(self), state.last);
        Answering { pace, number, is_whole: false, is_answered: false }
    }

    pub fn in_use(&self) -> Use {
        let (state, now) = (self.state(), Instant::now());
        let mut waits = state.waiting.values();
        match state.whole {
            0 => Use::None,
            all if state.waiting.len() >= all && waits.all(|w| now - w.since >= LEAST) => {
                Use::Untaken
            }
            _ => Use::Work,
        }
    }

    /// Has the connection end: another is to have its place.
    pub fn give_way(&self) {
        // What nobody takes is dropped; who is silent may still be told.
        if self.in_use() != Use::None {
            self.cut();
        }
        self.gives_way.notify_one();
    }

    /// Ends when the connection's place is another's.
    pub async fn has_to_go(&self) {
        self.gives_way.notified().await;
    }

    /// Ends when the client has taken nothing of an answer for too long, takes a large one too
    /// slowly, or calls off what it asks for again and again.
    pub async fn fails(&self) -> &'static str {
        loop {
            let limit = self.crowd.limit();
            let next = {
                let state = self.state();
                if state.called_off > CALLED_OFF {
                    return "called-off";
                }
                let untaken = state.waiting.values().map(|wait| (wait.since + limit, "untaken"));
                let slow = |large: &Large| (large.since + limit * large.strides, "slow");
                untaken.chain(state.large.values().map(slow)).min()
            };
            let now = Instant::now();
            match next {
                Some((end, reason)) if end <= now => return reason,
                Some((end, _)) => {
                    let left = (end - now).min(LOOK);
                    let _late = timeout(left, self.waits.notified()).await;
                }
                None => self.waits.notified().await,
            }
        }
    }

    /// Ends when nothing has been asked for a whole limit. What has been answered is the client's
    /// to take by then.
    pub async fn is_done(&self) {
        loop {
            while self.state().busy > 0 {
                self.rests.notified().await;
            }
            sleep(self.crowd.limit()).await;
            if self.state().busy == 0 {
                return;
            }
        }
    }

    /// The connection ends now, and what the kernel still holds for the client is dropped.
    pub fn cut(&self) {
        self.state().is_cut = true;
    }

    pub fn is_cut(&self) -> bool {
        self.state().is_cut
    }

    fn given(&self, number: u64) {
        let mut state = self.state();
        let now = Instant::now();
        let is_first = state.waiting.is_empty();
        state.waiting.entry(number).or_insert(Wait { parts: 0, since: now }).parts += 1;
        if is_first {
            self.crowd.waiting.fetch_add(1, Ordering::Relaxed);
            self.waits.notify_one();
        }
    }

    fn taken(&self, number: u64) {
        let mut state = self.state();
        if let Some(wait) = state.waiting.get_mut(&number) {
            wait.parts -= 1;
            wait.since = Instant::now();
            if wait.parts == 0 {
                state.waiting.remove(&number);
                if state.waiting.is_empty() {
                    self.crowd.waiting.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// One request, until its answer has been handed over or it is called off.
#[derive(Debug)]
pub(super) struct Answering {
    pace: Arc<Pace>,
    number: u64,
    is_whole: bool,
    is_answered: bool,
}

impl Answering {
    /// All that is to be read of the request has been.
    pub fn is_read(&mut self) {
        if !std::mem::replace(&mut self.is_whole, true) {
            self.pace.state().whole += 1;
        }
    }

    /// The answer's body, in parts whose way is followed; with its size where it takes room.
    pub fn answer(mut self, body: Body, large: Option<usize>) -> Paced {
        self.is_answered = true;
        let mut state = self.pace.state();
        state.called_off = state.called_off.saturating_sub(1);
        if let Some(bytes) = large {
            let strides = u32::try_from(bytes / STRIDE).unwrap_or(u32::MAX).min(1 << 16) + 2;
            state.large.insert(self.number, Large { since: Instant::now(), strides });
            self.pace.waits.notify_one();
        }
        drop(state);
        Paced { body, rest: Bytes::new(), answering: self }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.busy -= 1;
        state.whole -= usize::from(self.is_whole);
        state.large.remove(&self.number);
        if state.busy == 0 {
            self.pace.rests.notify_one();
        }
        if !self.is_answered {
            state.called_off = state.called_off.saturating_add(1);
            if state.called_off > CALLED_OFF {
                self.pace.waits.notify_one();
            }
        }
    }
}

/// A part of an answer, dropped once it was sent.
struct Part {
    bytes: Bytes,
    pace: Arc<Pace>,
    number: u64,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.pace.taken(self.number);
    }
}

/// An answer's body, in parts of at most [`PART`] bytes.
pub(super) struct Paced {
    body: Body,
    rest: Bytes,
    answering: Answering,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let bytes = this.rest.split_to(this.rest.len().min(PART));
        let (pace, number) = (Arc::clone(&this.answering.pace), this.answering.number);
        pace.given(number);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Part { bytes, pace, number })))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// A socket that breaks when it accepts nothing for too long.
///
/// The kernel takes more only once a good part of what it holds has left, so that a client that
/// reads byte by byte makes no progress here for long.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    pace: Arc<Pace>,
    /// While the socket accepts nothing.
    late: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub const fn new(stream: TcpStream, pace: Arc<Pace>) -> Self {
        Self { stream, pace, late: None }
    }

    fn watched<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.late = None;
            return outcome;
        }
        let limit = self.pace.crowd.limit();
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(late.as_mut().poll(cx));
        self.pace.cut();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watched(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.pace.is_cut() {
            // Nothing is lost if that fails but the kernel's memory, for a while.
            let _refused = self.stream.set_zero_linger();
        }
    }
}
