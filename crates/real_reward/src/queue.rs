//! A queue in front of the judges, for many callers at once.
//!
//! ```text
//!  caller ─ submit ─► Ticket           ┌─ grader: takes up to `batch` items ─ judge ─┐
//!  caller ─ submit ─► Ticket ─ items ─►│                                             ├─► each answer to its own ticket, at its place
//!  caller ─ submit ─► Ticket           └─ grader: …                                  ┘
//! ```
//!
//! Engines that ask for one reward at a time would pay for a start of the type checker each time; what waits here together is judged
//! together. The queue is bounded: where there is no room a caller hears so at once ([`Refused::Full`]) and can come again, instead of
//! waiting for an answer that comes too late.
//!
//! An item that was accepted is answered exactly once. A caller that does not want to wait any longer takes what there is with
//! [`Ticket::finish`], and the rest are outages ([`Score::infra_error`]). What nobody waits for any more is not judged. A judge that panics is a
//! bug of ours; what it has not answered gets outages, and the graders go on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::{Score, Task};

/// The size of a [`Queue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Items that may wait.
    pub capacity: usize,
    /// Items that are judged together. Each is answered by itself.
    pub batch: usize,
    /// Batches that are judged at once.
    pub graders: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { capacity: 4096, batch: 16, graders: 4 }
    }
}

/// A completion to judge.
#[derive(Debug, Clone)]
pub struct Item {
    /// What was asked.
    pub task: Arc<Task>,
    /// Number of the answer, handed through to [`Score::sample`].
    pub sample: u64,
    /// The text of the answer.
    pub completion: String,
}

/// Why items were not accepted. None of them was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no room now.
    #[error("the queue is full: {waiting} items are waiting, and there is room for {capacity}")]
    Full {
        /// Items that wait.
        waiting: usize,
        /// Items that may wait.
        capacity: usize,
    },
    /// The queue accepts nothing any more.
    #[error("the judges are shutting down")]
    Closed,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Items that wait.
    pub waiting: usize,
    /// Items that are being judged.
    pub judging: usize,
}

/// Judges items in batches, on threads of its own. Dropping it waits for what was accepted.
pub struct Queue {
    shared: Arc<Shared>,
    graders: Vec<JoinHandle<()>>,
}

/// Gives `done` the place of each item once, with its score, in any order.
type Judge = dyn Fn(&[(&Task, &str)], &(dyn Fn(usize, Score) + Sync)) + Send + Sync;

/// The answers to the items of one caller. Dropping it says that nobody wants them any more.
pub struct Ticket(Arc<Request>);

struct Shared {
    config: QueueConfig,
    line: Mutex<Line>,
    arrived: Condvar,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<(Arc<Request>, usize)>,
    judging: usize,
    closed: bool,
}

struct Request {
    items: Arc<[Item]>,
    answers: Mutex<Answers>,
    complete: Condvar,
    abandoned: AtomicBool,
}

struct Answers {
    scores: Vec<Option<Score>>,
    missing: usize,
    notify: Option<Box<dyn FnOnce() + Send>>,
}

impl Queue {
    /// Starts the graders. `judge` hands over a score for each item, once, in any order, by its place.
    pub fn start(
        judge: impl Fn(&[(&Task, &str)], &(dyn Fn(usize, Score) + Sync)) + Send + Sync + 'static,
        config: QueueConfig,
    ) -> Self {
        let shared = Arc::new(Shared { config, line: Mutex::default(), arrived: Condvar::new() });
        let judge: Arc<Judge> = Arc::new(judge);
        let graders = (0..config.graders.max(1))
            .map(|_| {
                let (shared, judge) = (Arc::clone(&shared), Arc::clone(&judge));
                std::thread::spawn(move || shared.work(&*judge))
            })
            .collect();
        Self { shared, graders }
    }

    /// Accepts all of the items or none. `notify` is called once, when the last of them is answered.
    pub fn submit(
        &self,
        items: impl Into<Arc<[Item]>>,
        notify: impl FnOnce() + Send + 'static,
    ) -> Result<Ticket, Refused> {
        let items = items.into();
        let missing = items.len();
        let answers = Answers { scores: vec![None; missing], missing, notify: Some(Box::new(notify)) };
        let request = Arc::new(Request {
            items,
            answers: Mutex::new(answers),
            complete: Condvar::new(),
            abandoned: AtomicBool::new(false),
        });
        self.shared.line_up(&request)?;
        if missing == 0 {
            request.lock().notify_once();
        }
        Ok(Ticket(request))
    }

    /// What there is to do.
    pub fn load(&self) -> Load {
        let line = self.shared.lock();
        Load { waiting: line.waiting.len(), judging: line.judging }
    }

    /// Accepts nothing from now on. What was accepted is still judged.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
        for grader in self.graders.drain(..) {
            // A grader catches the panics of the judge, and has none of its own to tell.
            let _ = grader.join();
        }
    }
}

impl Ticket {
    /// Waits for the last answer, or until the deadline. Whether every item is answered.
    pub fn wait(&self, deadline: Instant) -> bool {
        let mut answers = self.0.lock();
        while answers.missing > 0 {
            let Some(time) = deadline.checked_duration_since(Instant::now()) else { return false };
            let woken = self.0.complete.wait_timeout(answers, time);
            answers = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The scores, in order. An item that is not answered yet gets this outage and, where its judging has not begun, is forgotten.
    pub fn finish(self, outage: &str) -> Vec<Score> {
        let scores = std::mem::take(&mut self.0.lock().scores);
        let item = |(item, score): (&Item, Option<Score>)| {
            score.unwrap_or_else(|| Score::outage(&item.task.id, item.sample, outage))
        };
        self.0.items.iter().zip(scores).map(item).collect()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line_up(&self, request: &Arc<Request>) -> Result<(), Refused> {
        let mut line = self.lock();
        if line.closed {
            return Err(Refused::Closed);
        }
        let capacity = self.config.capacity;
        if line.waiting.len() + request.items.len() > capacity {
            line.waiting.retain(|(request, _)| request.is_wanted());
        }
        if line.waiting.len() + request.items.len() > capacity {
            return Err(Refused::Full { waiting: line.waiting.len(), capacity });
        }
        line.waiting.extend((0..request.items.len()).map(|index| (Arc::clone(request), index)));
        self.arrived.notify_all();
        Ok(())
    }

    /// The life of a grader.
    fn work(&self, judge: &Judge) {
        while let Some(batch) = self.take() {
            let items: Vec<(&Task, &str)> = batch
                .iter()
                .map(|(request, index)| &request.items[*index])
                .map(|item| (&*item.task, item.completion.as_str()))
                .collect();
            let answered: Vec<AtomicBool> = batch.iter().map(|_| AtomicBool::new(false)).collect();
            let answer = |place: usize, score: Score| {
                let (request, index) = &batch[place];
                assert!(!answered[place].swap(true, Ordering::Relaxed), "an item is answered once");
                // What is answered is not in progress any more, for whoever asks about the load after the answer.
                self.lock().judging -= 1;
                request.answer(*index, Score { sample: request.items[*index].sample, ..score });
            };
            // A panic leaves items without an answer, and so would a judge that has forgotten some.
            let _ = catch_unwind(AssertUnwindSafe(|| judge(&items, &answer)));
            for (place, item) in items.iter().enumerate() {
                if !answered[place].load(Ordering::Relaxed) {
                    answer(place, Score::outage(&item.0.id, 0, "the judges failed: a bug of ours"));
                }
            }
        }
    }

    /// The next items, once there are some; `None` when the queue is closed and empty.
    fn take(&self) -> Option<Vec<(Arc<Request>, usize)>> {
        let mut line = self.lock();
        loop {
            let mut batch = Vec::new();
            while batch.len() < self.config.batch.max(1)
                && let Some(entry) = line.waiting.pop_front()
            {
                if entry.0.is_wanted() {
                    batch.push(entry);
                }
            }
            if !batch.is_empty() {
                line.judging += batch.len();
                return Some(batch);
            }
            if line.closed {
                return None;
            }
            line = self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Request {
    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_wanted(&self) -> bool {
        !self.abandoned.load(Ordering::Relaxed)
    }

    fn answer(&self, index: usize, score: Score) {
        let mut answers = self.lock();
        // After `Ticket::finish` there is no place for it.
        let Some(place) = answers.scores.get_mut(index) else { return };
        assert!(place.replace(score).is_none(), "an item is answered once");
        answers.missing -= 1;
        if answers.missing == 0 {
            answers.notify_once();
            self.complete.notify_all();
        }
    }
}

impl Answers {
    fn notify_once(&mut self) {
        if let Some(notify) = self.notify.take() {
            notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    fn task(id: &str) -> Arc<Task> {
        let json = format!(
            r#"{{"id":"{id}","benchmark":"own","messages":[],"tests":{{"kind":"call","cases":[]}}}}"#
        );
        Arc::new(serde_json::from_str(&json).unwrap())
    }

    fn items(id: &str, completions: &[&str]) -> Vec<Item> {
        let item = |(sample, text): (usize, &&str)| Item {
            task: task(id),
            sample: sample as u64,
            completion: (*text).to_owned(),
        };
        completions.iter().enumerate().map(item).collect()
    }

    /// Tells the task and the completion apart: the flag is the completion.
    fn echo(items: &[(&Task, &str)], done: &(dyn Fn(usize, Score) + Sync)) {
        for (place, (task, completion)) in items.iter().enumerate() {
            assert_ne!(*completion, "panic");
            let mut score = Score::outage(&task.id, 0, "");
            score.infra_error = None;
            score.flags = vec![(*completion).to_owned()];
            done(place, score);
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn wait(ticket: Ticket) -> Vec<Score> {
        assert!(ticket.wait(soon()));
        ticket.finish("late")
    }

    #[test]
    fn many_callers_get_their_own_answers_in_order() {
        let queue = Queue::start(echo, QueueConfig { capacity: 10_000, batch: 7, graders: 3 });
        std::thread::scope(|scope| {
            for caller in 0..50 {
                let queue = &queue;
                scope.spawn(move || {
                    let id = caller.to_string();
                    let completions: Vec<String> = (0..20).map(|n| format!("{caller}/{n}")).collect();
                    let texts: Vec<&str> = completions.iter().map(String::as_str).collect();
                    let scores = wait(queue.submit(items(&id, &texts), || ()).unwrap());
                    for (n, (score, text)) in scores.iter().zip(&completions).enumerate() {
                        assert_eq!((&score.task_id, score.sample, &score.flags[0]), (&id, n as u64, text));
                        assert_eq!(score.infra_error, None);
                    }
                    assert_eq!(scores.len(), 20);
                });
            }
        });
        assert_eq!(queue.load(), Load::default());
    }

    /// A queue whose judge waits for a word, and the sender of that word.
    fn slow(capacity: usize) -> (Queue, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let (go, wait) = mpsc::channel();
        let (wait, judged) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&judged);
        let judge = move |items: &[(&Task, &str)], done: &(dyn Fn(usize, Score) + Sync)| {
            wait.lock().unwrap().recv().unwrap();
            count.fetch_add(items.len(), Ordering::Relaxed);
            echo(items, done);
        };
        (Queue::start(judge, QueueConfig { capacity, batch: 1, graders: 1 }), go, judged)
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = soon();
        while !condition() {
            assert!(Instant::now() < deadline, "nothing happens");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_full_queue_refuses_all_or_nothing() {
        let (queue, go, judged) = slow(3);
        let first = queue.submit(items("a", &["1"]), || ()).unwrap();
        until(|| queue.load() == Load { waiting: 0, judging: 1 });
        let second = queue.submit(items("b", &["1", "2"]), || ()).unwrap();
        let refused = queue.submit(items("c", &["1", "2"]), || ()).err();
        assert_eq!(refused, Some(Refused::Full { waiting: 2, capacity: 3 }));
        // Who is not interested any more makes room.
        drop(second);
        let third = queue.submit(items("c", &["1", "2", "3"]), || ()).unwrap();
        for _ in 0..4 {
            go.send(()).unwrap();
        }
        assert_eq!((wait(first).len(), wait(third).len()), (1, 3));
        assert_eq!(judged.load(Ordering::Relaxed), 4, "what nobody wants is not judged");
    }

    #[test]
    fn who_stops_waiting_gets_what_there_is() {
        let (queue, go, _) = slow(10);
        let ticket = queue.submit(items("a", &["1", "2"]), || ()).unwrap();
        go.send(()).unwrap();
        until(|| ticket.0.lock().missing == 1);
        assert!(!ticket.wait(Instant::now() + Duration::from_millis(5)));
        let scores = ticket.finish("too late");
        assert_eq!((scores[0].flags[0].as_str(), &scores[0].infra_error), ("1", &None));
        assert_eq!((scores[1].reward, scores[1].infra_error.as_deref()), (None, Some("too late")));
        assert_eq!((scores[1].task_id.as_str(), scores[1].sample), ("a", 1));
        go.send(()).unwrap();
    }

    #[test]
    fn a_closed_queue_judges_what_it_has_accepted() {
        let (queue, go, _) = slow(10);
        let (notify, notified) = mpsc::channel();
        let ticket = queue.submit(items("a", &["1", "2", "3"]), move || notify.send(()).unwrap()).unwrap();
        queue.close();
        assert_eq!(queue.submit(items("b", &["1"]), || ()).err(), Some(Refused::Closed));
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        drop(queue);
        notified.recv().unwrap();
        assert!(notified.recv().is_err(), "told once");
        assert!(ticket.finish("late").iter().all(|score| score.infra_error.is_none()));
    }

    #[test]
    fn an_item_is_answered_when_it_is_judged_and_not_with_its_batch() {
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let judge = move |items: &[(&Task, &str)], done: &(dyn Fn(usize, Score) + Sync)| {
            let last = items.len() - 1;
            echo(&items[..last], done);
            wait.lock().unwrap().recv().unwrap();
            echo(&items[last..], &|_, score| done(last, score));
        };
        let queue = Queue::start(judge, QueueConfig { capacity: 10, batch: 10, graders: 1 });
        let ticket = queue.submit(items("a", &["1", "2", "slow"]), || ()).unwrap();
        until(|| ticket.0.lock().missing == 1);
        assert_eq!(queue.load(), Load { waiting: 0, judging: 1 });
        go.send(()).unwrap();
        assert_eq!(wait_flags(ticket), ["1", "2", "slow"]);
    }

    fn wait_flags(ticket: Ticket) -> Vec<String> {
        wait(ticket).into_iter().flat_map(|score| score.flags).collect()
    }

    #[test]
    fn a_panic_of_the_judge_costs_only_what_it_has_not_answered() {
        let queue = Queue::start(echo, QueueConfig { capacity: 10, batch: 3, graders: 1 });
        let scores = wait(queue.submit(items("a", &["1", "panic", "3"]), || ()).unwrap());
        let failed: Vec<bool> = scores.iter().map(|score| score.infra_error.is_some()).collect();
        assert_eq!(failed, [false, true, true]);
        assert_eq!(queue.load(), Load::default());
    }

    #[test]
    fn a_panic_of_the_judge_costs_only_its_batch() {
        let queue = Queue::start(echo, QueueConfig { capacity: 10, batch: 1, graders: 1 });
        let scores = wait(queue.submit(items("a", &["1", "panic", "3"]), || ()).unwrap());
        let failed: Vec<bool> = scores.iter().map(|score| score.infra_error.is_some()).collect();
        assert_eq!(failed, [false, true, false]);
        assert!(wait(queue.submit(Vec::new(), || ()).unwrap()).is_empty());
    }
}
