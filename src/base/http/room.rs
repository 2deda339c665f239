//! Room for answers: what waits to be taken is memory, and there is so much of it for all clients of
//! a listener, for each address, and for each connection.
//!
//! Small answers are part of their connection. A larger one takes room before it waits, and gives it
//! back piece by piece as it is taken. How large an answer is shows only once it is made: where there
//! is no room for it then, it is dropped and made again when there is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either};
use hyper::Method;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{HeaderValue, RETRY_AFTER};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::pace::PART;
use super::server::{Limits, Request, Response, Service};

/// What is allocated, and given back, at once.
const PIECE: usize = 64 << 10;
/// Room is counted in these.
const UNIT: usize = 1 << 10;
/// When to ask again: those who take nothing are cut by then.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Room of one owner. Whoever waits for it is served in order.
#[derive(Debug)]
pub(super) struct Room {
    units: Arc<Semaphore>,
    all: u32,
    /// For the one that waits for the next wider room.
    turn: Mutex<()>,
}

impl Room {
    pub fn new(bytes: usize) -> Arc<Self> {
        let all = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX >> 4).max(1);
        Arc::new(Self {
            units: Arc::new(Semaphore::new(all as usize)),
            all,
            turn: Mutex::default(),
        })
    }

    /// How much is taken, from 0 to 1.
    pub fn fill(&self) -> f64 {
        1.0 - self.units.available_permits() as f64 / f64::from(self.all)
    }

    /// What is larger than all the room takes all of it.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.all)
    }

    async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let units = Arc::clone(&self.units);
        units.acquire_many_owned(self.units(bytes)).await.expect("never closed")
    }

    fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.units).try_acquire_many_owned(self.units(bytes)).ok()
    }

    /// As much as there is.
    fn take_some(&self, bytes: usize) -> OwnedSemaphorePermit {
        let mut units = self.units(bytes) as usize;
        loop {
            units = units.min(self.units.available_permits());
            // Somebody else may take it in between; there is always room for nothing.
            if let Some(taken) = self.try_take(units * UNIT) {
                return taken;
            }
        }
    }
}

/// Those whose room an answer takes, the narrowest first: who waits at his own listener stands in
/// nobody's way.
#[derive(Clone, Debug)]
pub(super) struct Rooms([Arc<Room>; 3]);

/// Room that was taken from each.
#[derive(Debug)]
struct Taken([OwnedSemaphorePermit; 3]);

impl Rooms {
    pub fn new(limits: &Limits, source: Arc<Room>, all: Arc<Room>) -> Self {
        Self([Room::new(limits.answers_bytes / 4), source, all])
    }

    async fn take(&self, bytes: usize) -> Taken {
        let [connection, source, all] = &self.0;
        // One of each stands in the next queue, however many it has: an honest client waits behind
        // as many answers as there are others, not behind all of theirs.
        let of_connection = connection.take(bytes).await;
        let turn = connection.turn.lock().await;
        let of_source = source.take(bytes).await;
        drop(turn);
        let _turn = source.turn.lock().await;
        Taken([of_connection, of_source, all.take(bytes).await])
    }

    fn try_take(&self, bytes: usize) -> Option<Taken> {
        let [connection, source, all] = &self.0;
        let connection = connection.try_take(bytes)?;
        let source = source.try_take(bytes)?;
        Some(Taken([connection, source, all.try_take(bytes)?]))
    }

    fn take_some(&self, bytes: usize) -> Taken {
        Taken(self.0.each_ref().map(|room| room.take_some(bytes)))
    }
}

impl Taken {
    /// Of this, the room of a piece.
    fn part(&mut self, bytes: usize) -> Self {
        let units = bytes.div_ceil(UNIT);
        Self(self.0.each_mut().map(|taken| {
            let units = units.min(taken.num_permits());
            taken.split(units).expect("no more than there is")
        }))
    }

    fn merge(&mut self, other: Self) {
        for (taken, more) in self.0.iter_mut().zip(other.0) {
            taken.merge(more);
        }
    }
}

/// An answer, and how large it is if it has taken room; None when there was none for it.
pub(super) type Roomy = Option<(Response, Option<usize>)>;

/// Has `service` answer, and finds room for what it says.
pub(super) async fn answered<S: Service>(
    service: &S,
    request: Request,
    rooms: &Rooms,
    patience: Duration,
) -> Roomy {
    // Only what changes nothing can be made twice.
    let is_reading = matches!(request.method, Method::GET | Method::HEAD);
    let again = is_reading.then(|| request.clone());
    let made = service.handle(request).await;
    let Some(bytes) = large(&made) else { return Some((made, None)) };
    let Some(request) = again else {
        // What was done must be told. These are one record large each, and as fast as the disk.
        return Some(kept(made, rooms.take_some(bytes)).await);
    };
    if let Some(taken) = rooms.try_take(bytes) {
        return Some(kept(made, taken).await);
    }
    drop(made);
    let mut taken = timeout(patience, rooms.take(bytes)).await.ok()?;
    let made = service.handle(request).await;
    match large(&made) {
        None => return Some((made, None)),
        Some(now) if now > bytes => taken.merge(rooms.try_take(now - bytes)?),
        Some(_) => {}
    }
    Some(kept(made, taken).await)
}

/// Says that there is no room, and when to come again.
pub(super) fn refused<S: Service>(service: &S) -> Response {
    let mut response = service.crowded();
    response.headers_mut().insert(RETRY_AFTER, AGAIN);
    response
}

/// The size of an answer that is too large to be counted as part of its connection. What is sent as
/// it comes into being is never in memory as a whole.
fn large(response: &Response) -> Option<usize> {
    let Either::Left(whole) = response.body() else { return None };
    let bytes = usize::try_from(HttpBody::size_hint(whole).lower()).unwrap_or(usize::MAX);
    (bytes > PART).then_some(bytes)
}

/// The same answer in pieces, each with the room it takes.
async fn kept(response: Response, mut taken: Taken) -> (Response, Option<usize>) {
    let (head, body) = response.into_parts();
    let whole = match body {
        Either::Left(whole) => whole.collect().await.unwrap_or_else(|never| match never {}),
        streamed @ Either::Right(_) => return (Response::from_parts(head, streamed), None),
    };
    let whole = whole.to_bytes();
    let pieces = whole
        .chunks(PIECE)
        .map(|bytes| {
            let taken = taken.part(bytes.len());
            Bytes::from_owner(Piece { bytes: bytes.into(), _taken: taken })
        })
        .collect();
    let body = Either::Right(Pieces(pieces).boxed_unsync());
    (Response::from_parts(head, body), Some(whole.len()))
}

struct Piece {
    bytes: Box<[u8]>,
    _taken: Taken,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Pieces(VecDeque<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(source: usize, all: usize) -> Rooms {
        let limits = Limits { answers_bytes: 4 * source, ..Limits::default() };
        Rooms::new(&limits, Room::new(source), Room::new(all))
    }

    #[tokio::test]
    async fn room_is_given_back_as_pieces_go() {
        let rooms = rooms(1 << 20, 2 << 20);
        let taken = rooms.try_take(200 << 10).unwrap();
        let response = super::super::server::response(
            hyper::StatusCode::OK,
            "text/plain",
            vec![b'x'; 200 << 10],
        );
        let (response, size) = kept(response, taken).await;
        assert_eq!(size, Some(200 << 10));
        let mut body = response.into_body();
        assert_eq!(body.size_hint().exact(), Some(200 << 10));
        let mut left = 200 << 10;
        while let Some(piece) = body.frame().await {
            let free = (1 << 20) - left;
            assert!(rooms.try_take(free).is_some() && rooms.try_take(free + 1).is_none());
            let piece = piece.unwrap().into_data().unwrap();
            left -= piece.len();
        }
        assert!(rooms.try_take(1 << 20).is_some());
    }

    #[tokio::test]
    async fn who_waits_at_his_own_door_stands_in_nobodys_way() {
        let all = Room::new(10 << 10);
        let limits = Limits { answers_bytes: 40 << 10, ..Limits::default() };
        let [one, two] =
            [(); 2].map(|()| Rooms::new(&limits, Room::new(5 << 10), Arc::clone(&all)));
        let held = one.try_take(4 << 10).unwrap();
        let mut more = Box::pin(one.take(2 << 10));
        assert!(timeout(Duration::from_millis(20), more.as_mut()).await.is_err());
        let other = two.try_take(5 << 10).expect("there is room for others");
        drop(held);
        drop(more.await);
        assert!((all.fill() - 0.5).abs() < 0.01);
        drop(other);
        // What must be told takes what there is; what is larger than all takes all.
        let all = one.try_take(1 << 30).unwrap();
        assert!(one.take_some(3 << 10).0[1].num_permits() == 0);
        drop(all);
        assert!(one.take_some(3 << 10).0[1].num_permits() == 3);
    }
}
