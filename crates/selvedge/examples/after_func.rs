//! A thread in a blocking read, which no context ends: the socket knows nothing of it. A callback shuts the socket down
//! when the context ends, and then the read returns. No runtime takes part.
//!
//! ```text
//! cargo run --example after_func
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use selvedge::cancel::{Context, Revoked};

/// Prints lines until the sensor closes or the context ends.
fn listen(ctx: &Context, stream: TcpStream) -> io::Result<()> {
    let socket = stream.try_clone()?;
    // Short, as it runs inside somebody else's `cancel`: a shutdown does not wait.
    let interrupt = ctx.on_cancel(move |_| {
        let _ = socket.shutdown(Shutdown::Both);
    });
    for line in BufReader::new(stream).lines() {
        println!("  {}", line?);
    }
    // Whoever was first has decided: a callback that was taken back in time never runs.
    match (interrupt.revoke(), ctx.cause()) {
        (Revoked::InTime, _) | (_, None) => println!("the sensor has closed"),
        (_, Some(cause)) => println!("interrupted: {cause}"),
    }
    Ok(())
}

/// A sensor that sends two lines, and then closes or is silent.
fn sensor(closes: bool) -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut other_side, _) = listener.accept()?;
    thread::spawn(move || -> io::Result<()> {
        other_side.write_all(b"21.5 degrees\n21.6 degrees\n")?;
        if !closes {
            // Until we shut down.
            other_side.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    });
    Ok(stream)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("a sensor that closes:");
    let (ctx, _canceller) = Context::background().with_timeout(Duration::from_secs(60))?;
    listen(&ctx, sensor(true)?)?;

    println!("a sensor that falls silent, and half a second:");
    let (ctx, _canceller) = Context::background().with_timeout(Duration::from_millis(500))?;
    listen(&ctx, sensor(false)?)?;
    Ok(())
}
