//! Connections, from the first to the last: accepting, time limits, and shutting down without losing an answer.
//!
//! ```text
//!  signal ─► no new connection, `/health` says `draining` ─► what was accepted is answered ─► the end
//!                                                       └─ `drain` has passed ─► the rest is answered as outages ─► the end
//! ```

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{App, Shared};
use crate::{Error, Judges, ServeConfig, routes};

/// Time to send the last answers.
const FAREWELL: Duration = Duration::from_secs(5);

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    app: Shared,
}

impl Server {
    /// Starts to listen, and to judge.
    pub async fn bind(judges: impl Judges, config: ServeConfig) -> Result<Self, Error> {
        config.validate()?;
        let failed = |source| Error::Listen { addr: config.addr, source };
        let listener = TcpListener::bind(config.addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, addr, app: Arc::new(App::new(judges, config)) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown`, and then until what was accepted is answered.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, app, .. } = self;
        let router = routes::router(&app);
        let connections = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => serve_connection(stream, router.clone(), &app, &connections),
                    Err(error) => {
                        // Out of file descriptors, most likely: some will be free again.
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        app.drain();
        let mut ended = pin!(connections.shutdown());
        if tokio::time::timeout(app.config.drain, &mut ended).await.is_err() {
            tracing::warn!("accepted items are answered as outages: the time to drain has passed");
            app.give_up();
            if tokio::time::timeout(FAREWELL, ended).await.is_err() {
                tracing::warn!("some clients did not take their answers");
            }
        }
    }
}

fn serve_connection(stream: TcpStream, router: Router, app: &App, connections: &GracefulShutdown) {
    // Answers are small and leave in one piece.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.config.patience)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
}

/// Waits for SIGTERM or SIGINT; a second one ends the process.
pub(crate) fn signals() -> Result<impl Future<Output = ()>, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!(
            "shutting down once everything accepted is answered; a second signal ends the process at once"
        );
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(130);
        });
    })
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
