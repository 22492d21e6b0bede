//! The run: an agenda in virtual time, and the gateway that carries out what its sessions decide.

mod backend;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};

use super::super::*;
use super::connection::{Connection, Frame, Item, Next, Said};
use super::plan::{MILLI, Micros, Outage, Plan, Promise, SECOND};
use super::random::Random;
use super::upstream::{Account, Request, Upstream};

/// How long the gateway waits for the answer to a request.
const ANSWER_TIMEOUT: Micros = 10 * SECOND;

/// What happens at some time.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Types(usize),
    Leaves(usize),
    Reads(usize),
    Pauses(usize, Micros),
    Resumes(usize),
    HungUp(usize),
    Alarm(usize),
    Emits(usize),
    Comments,
    Cut(usize),
    Arrives(usize, u64, Item),
    PostArrives(u64),
    PostEnds(u64, Ending),
    ReopenArrives(usize, u64, u64),
    ReopenEnds(usize, u64, Reopened),
    Begins(Outage),
    Ends(Outage),
}

/// How a POST comes back.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Accepted,
    Wait(u64),
    NotSent,
    InDoubt(Doubt),
}

/// A POST under way.
struct Post {
    client: usize,
    delivery: Delivery,
    request: Request,
    has_arrived: bool,
}

pub(super) struct World {
    pub plan: Plan,
    pub connections: Vec<Connection>,
    pub upstream: Upstream,
    /// What must never happen, and has.
    pub broken: Option<String>,
    random: Random,
    now: Micros,
    start: Instant,
    agenda: BTreeMap<(Micros, u64), Happening>,
    posts: BTreeMap<u64, Post>,
    /// The newest number of an appointment, a POST or a stream.
    number: u64,
    /// When the budget allows the next reopening.
    next_reopening: Micros,
    trace: DefaultHasher,
}

impl World {
    pub(super) fn new(promise: Promise, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(promise, &mut random);
        let start = Instant::now();
        let settings = Arc::new(plan.settings.clone());
        let mut connection = |room| Connection::new(Session::new(settings.clone(), random.next(), None, start), room);
        let connections = plan.clients.iter().map(|client| connection(client.room)).collect();
        let account = || Account { attached: Some(0), ..Account::default() };
        let upstream = Upstream { accounts: plan.clients.iter().map(|_| account()).collect(), ..Upstream::default() };
        let mut world = Self {
            plan,
            connections,
            upstream,
            broken: None,
            random,
            now: 0,
            start,
            agenda: BTreeMap::new(),
            posts: BTreeMap::new(),
            number: 0,
            next_reopening: 0,
            trace: DefaultHasher::new(),
        };
        world.write_agenda();
        world
    }

    fn write_agenda(&mut self) {
        let mut appointments = Vec::new();
        for (client, plan) in self.plan.clients.iter().enumerate() {
            appointments.extend(plan.types.iter().map(|at| (*at, Happening::Types(client))));
            appointments.extend(plan.events.iter().map(|at| (*at, Happening::Emits(client))));
            appointments.extend(plan.cuts.iter().map(|at| (*at, Happening::Cut(client))));
            appointments.extend(plan.pauses.iter().map(|(at, time)| (*at, Happening::Pauses(client, *time))));
            appointments.push((plan.leaves.unwrap_or(self.plan.end), Happening::Leaves(client)));
            appointments.push((0, Happening::Resumes(client)));
        }
        for (outage, begin, end) in &self.plan.outages {
            appointments.extend([(*begin, Happening::Begins(*outage)), (*end, Happening::Ends(*outage))]);
        }
        appointments.push((20 * SECOND, Happening::Comments));
        for (at, happening) in appointments {
            self.at(at, happening);
        }
    }

    /// Runs to the end and gives a hash of all that happened.
    pub(super) fn run(&mut self) -> u64 {
        let latest = self.plan.end + 400 * SECOND;
        while let Some(((now, _), happening)) = self.agenda.pop_first() {
            if now > latest || self.broken.is_some() || self.connections.iter().all(|it| it.session.closed().is_some())
            {
                break;
            }
            self.now = now;
            self.trace.write(format!("{now} {happening:?}").as_bytes());
            self.happens(happening);
        }
        self.trace.finish()
    }

    fn at(&mut self, time: Micros, happening: Happening) {
        self.number += 1;
        self.agenda.insert((time, self.number), happening);
    }

    fn after(&mut self, time: Micros, happening: Happening) {
        self.at(self.now + time, happening);
    }

    fn latency(&mut self) -> Micros {
        self.random.between(100, 3 * MILLI)
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Types(client) => {
                let connection = &mut self.connections[client];
                if connection.left || !connection.socket {
                    return;
                }
                connection.sent += 1;
                connection.inbound.push_back(Said::Message(connection.sent));
                self.turn(client);
            }
            Happening::Leaves(client) => {
                let said = self.random.pick(&[Said::Goodbye, Said::Goodbye, Said::Gone]);
                let early = self.now < self.plan.end;
                let connection = &mut self.connections[client];
                if connection.left || !connection.socket {
                    return;
                }
                (connection.left, connection.left_early) = (true, early);
                connection.inbound.push_back(said);
                self.turn(client);
            }
            Happening::Reads(client) => self.client_reads(client),
            Happening::Pauses(client, time) => {
                self.connections[client].paused = true;
                self.after(time, Happening::Resumes(client));
            }
            Happening::Resumes(client) => {
                self.connections[client].paused = false;
                self.client_reads(client);
            }
            Happening::HungUp(client) => {
                if self.connections[client].socket && self.connections[client].session.reads_client() {
                    self.connections[client].socket = false;
                    self.step(client, Input::Client(ClientInput::Gone));
                }
                self.turn(client);
            }
            Happening::Alarm(client) => {
                // One that was set before a sooner one is no longer of use.
                if self.connections[client].alarm == Some(self.now) {
                    self.connections[client].alarm = None;
                    self.turn(client);
                }
            }
            Happening::Emits(client) => {
                self.upstream.accounts[client].events += 1;
                self.emit(client);
            }
            Happening::Comments => {
                for client in 0..self.connections.len() {
                    if let Some(generation) =
                        self.upstream.accounts[client].attached.filter(|_| !self.upstream.is_stalled)
                    {
                        self.send(client, generation, Item::Comment);
                    }
                }
                self.after(20 * SECOND, Happening::Comments);
            }
            Happening::Cut(client) => self.cut(client),
            Happening::Arrives(client, generation, item) => self.arrives(client, generation, item),
            Happening::PostArrives(id) => self.post_arrives(id),
            Happening::PostEnds(id, ending) => self.post_ends(id, ending),
            Happening::ReopenArrives(client, generation, position) => self.reopen_arrives(client, generation, position),
            Happening::ReopenEnds(client, generation, reopened) => self.reopen_ends(client, generation, reopened),
            Happening::Begins(Outage::Crash) => self.crash(),
            Happening::Begins(Outage::Stall) => self.upstream.is_stalled = true,
            Happening::Ends(outage) => self.ends(outage),
        }
    }

    /// Everything that one connection's driver can do now.
    fn turn(&mut self, client: usize) {
        let is_due = |session: &Session, now| session.next_deadline().is_some_and(|deadline| deadline <= now);
        let now = self.start + Duration::from_micros(self.now);
        for steps in 0.. {
            if steps > 100_000 {
                self.broken = Some(format!("client {client}: a turn without an end"));
                return;
            }
            let connection = &mut self.connections[client];
            if is_due(&connection.session, now) {
                self.step(client, Input::Tick);
                continue;
            }
            match connection.next_input() {
                Some(Next::Client(said)) => self.client_says(client, said),
                Some(Next::Ready) => self.step(client, Input::ClientReady),
                Some(Next::Busy) => self.step(client, Input::ClientBusy),
                Some(Next::Stream(item)) => self.stream_gives(client, item),
                None => break,
            }
        }
        let connection = &mut self.connections[client];
        let Some(deadline) = connection.session.next_deadline() else { return };
        // Rounded up: the clock here is coarser than the session's.
        let nanos = (deadline - self.start).as_nanos().div_ceil(1000);
        let due = Micros::try_from(nanos).unwrap();
        if connection.alarm.is_none_or(|alarm| due < alarm) {
            connection.alarm = Some(due);
            self.at(due, Happening::Alarm(client));
        }
    }

    fn client_says(&mut self, client: usize, said: Said) {
        let input = match said {
            Said::Message(number) => ClientInput::Message(Message::Text(number.to_string().into())),
            Said::Pong => ClientInput::Alive,
            Said::Goodbye => ClientInput::Closed(Some(CloseFrame::new(1000, ""))),
            Said::Gone => {
                self.connections[client].socket = false;
                ClientInput::Gone
            }
        };
        self.step(client, Input::Client(input));
    }

    fn stream_gives(&mut self, client: usize, item: Item) {
        let connection = &mut self.connections[client];
        match item {
            Item::Event(id) => {
                connection.position = id;
                let text = id.to_string();
                let event = Event { name: None, data: text.as_str().into() };
                let of = EventOf { source: Source::Main, last_event_id: &text, own_id: true };
                self.step(client, Input::Event(event, of));
            }
            Item::Comment => self.step(client, Input::StreamAlive),
            Item::End(end) => {
                connection.stream = None;
                self.step(client, Input::StreamEnded(end, RESUMABLE));
            }
        }
    }

    fn step(&mut self, client: usize, input: Input<'_>) {
        let now = self.start + Duration::from_micros(self.now);
        let connection = &mut self.connections[client];
        let mut outputs = Vec::new();
        connection.session.step(input, now, &mut outputs);
        let mut is_stalled = false;
        for output in outputs {
            is_stalled |= matches!(output, Output::DropStream);
            self.carry_out(client, output);
        }
        let connection = &mut self.connections[client];
        if !connection.session.is_open() {
            connection.reopening = None;
        }
        if is_stalled || !connection.session.needs_upstream() {
            connection.stream = None;
            self.upstream.accounts[client].attached = None;
        }
        if is_stalled {
            self.step(client, Input::StreamEnded(StreamEnd::Stalled, RESUMABLE));
        }
    }

    fn carry_out(&mut self, client: usize, output: Output) {
        self.trace.write(client.to_string().as_bytes());
        let frame = match output {
            Output::Send(Message::Text(text)) => Frame::Message(text.parse().unwrap()),
            Output::Send(Message::Binary(_)) => unreachable!("only texts are sent here"),
            Output::Ping => Frame::Ping,
            Output::Close(_) => Frame::Close,
            Output::HangUp => {
                self.connections[client].hanging_up = true;
                let latency = self.latency();
                return self.after(latency, Happening::HungUp(client));
            }
            Output::Abandon => return self.connections[client].socket = false,
            Output::Post(delivery) => return self.post(client, delivery),
            Output::Reopen { resume } => return self.reopen(client, resume),
            Output::DropPosts => return self.posts.retain(|_, post| post.client != client),
            Output::DropStream => return,
        };
        self.trace.write(format!("{frame:?}").as_bytes());
        let connection = &mut self.connections[client];
        if !connection.socket {
            return;
        }
        connection.outbound.push_back(frame);
        if !connection.will_read {
            connection.will_read = true;
            let latency = self.latency();
            self.after(latency, Happening::Reads(client));
        }
    }

    fn client_reads(&mut self, client: usize) {
        let connection = &mut self.connections[client];
        if connection.paused {
            // It reads when it resumes.
            return;
        }
        connection.will_read = false;
        while let Some(frame) = connection.outbound.pop_front() {
            match frame {
                Frame::Message(number) => connection.received.push(number),
                Frame::Ping => connection.inbound.push_back(Said::Pong),
                Frame::Close if connection.left => {}
                Frame::Close => {
                    connection.left = true;
                    connection.inbound.push_back(Said::Goodbye);
                }
            }
        }
        self.turn(client);
    }

    fn post(&mut self, client: usize, delivery: Delivery) {
        let session = &self.connections[client].session;
        if session.is_open() && session.stream_state() != StreamState::Open {
            self.broken = Some(format!("client {client}: posted while the stream is away"));
        }
        self.number += 1;
        let id = self.number;
        self.trace.write(format!("post {id} {} {}", delivery.sequence, delivery.attempt).as_bytes());
        let request = Request::new(client, &delivery);
        self.posts.insert(id, Post { client, delivery, request, has_arrived: false });
        let latency = self.latency();
        self.after(latency, Happening::PostArrives(id));
        self.after(ANSWER_TIMEOUT, Happening::PostEnds(id, Ending::InDoubt(Doubt::TimedOut)));
    }

    fn post_ends(&mut self, id: u64, ending: Ending) {
        let Some(Post { client, delivery, .. }) = self.posts.remove(&id) else { return };
        let outcome = match ending {
            Ending::Accepted => ACCEPTED,
            Ending::Wait(seconds) => {
                PostOutcome::Refused { status: 503, retry_after: Some(Duration::from_secs(seconds)) }
            }
            Ending::NotSent => PostOutcome::NotSent,
            Ending::InDoubt(doubt) => {
                let connection = &mut self.connections[client];
                connection.in_doubt |= connection.session.is_open();
                PostOutcome::InDoubt(doubt)
            }
        };
        self.step(client, Input::Posted(delivery, outcome));
        self.turn(client);
    }

    fn reopen(&mut self, client: usize, resume: bool) {
        self.number += 1;
        let generation = self.number;
        let connection = &mut self.connections[client];
        if connection.stream.is_some() || connection.reopening.is_some() {
            self.broken = Some(format!("client {client}: asked for a second stream"));
        }
        connection.reopening = Some(generation);
        let position = if resume { connection.position } else { 0 };
        // The budget that all connections share.
        let begin = self.next_reopening.max(self.now);
        self.next_reopening = begin + 20 * MILLI;
        let latency = self.latency();
        self.at(begin + latency, Happening::ReopenArrives(client, generation, position));
        self.at(begin + ANSWER_TIMEOUT, Happening::ReopenEnds(client, generation, Reopened::Failed));
    }

    fn reopen_ends(&mut self, client: usize, generation: u64, reopened: Reopened) {
        let connection = &mut self.connections[client];
        if connection.reopening != Some(generation) {
            return;
        }
        connection.reopening = None;
        if reopened == Reopened::Open {
            let inbox = std::collections::VecDeque::new();
            connection.stream = Some(super::connection::Stream { generation, inbox, over: false });
        }
        self.step(client, Input::Reopened(reopened));
        self.turn(client);
    }

    fn arrives(&mut self, client: usize, generation: u64, item: Item) {
        let connection = &mut self.connections[client];
        if connection.reopening == Some(generation) && matches!(item, Item::End(_)) {
            // It broke before its head came.
            return self.reopen_ends(client, generation, Reopened::Failed);
        }
        if let Some(stream) =
            connection.stream.as_mut().filter(|stream| stream.generation == generation && !stream.over)
        {
            stream.over = matches!(item, Item::End(_));
            stream.inbox.push_back(item);
            self.turn(client);
        }
    }
}
