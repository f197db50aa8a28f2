//! `stack login` and `stack logout`. They need no root: what they write is the user's own.

use std::io::{IsTerminal, Read};

use crate::cli::args::{LoginArgs, LogoutArgs};
use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::render::prompt::{ask, ask_hidden};
use crate::cli::signals::Interrupts;
use crate::engine::registry;

/// No password is longer.
const MAX_PASSWORD_BYTES: u64 = 1 << 20;

/// Checks a name and password with a registry and keeps them.
pub(super) async fn login(context: &Context, args: LoginArgs) -> Result<(), CliError> {
    context.refuse_dry_run("login")?;
    let server = registry::server(args.server.as_deref());
    let (user, password) = secret(context, &args, &server).await?;
    let mut interrupts = Interrupts::listen()?;
    let kept = tokio::select! {
        biased;
        _ = interrupts.next() => return Err(CliError::Ended(130)),
        kept = registry::login(&context.environment, &server, &user, &password) => kept?,
    };
    if let Some(path) = kept.readable_in {
        context.printer.err(format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    context.out("Login Succeeded\n")
}

/// Forgets what is kept for a registry.
pub(super) fn logout(context: &Context, args: &LogoutArgs) -> Result<(), CliError> {
    context.refuse_dry_run("logout")?;
    let server = registry::server(args.server.as_deref());
    let known = registry::logout(&context.environment, &server)?;
    context.out(if known {
        format!("Removing login credentials for {server}\n")
    } else {
        format!("Not logged in to {server}\n")
    })
}

/// Takes name and password from the arguments, from standard input, or asks.
async fn secret(
    context: &Context,
    args: &LoginArgs,
    server: &str,
) -> Result<(String, String), CliError> {
    if args.password_stdin {
        if args.password.is_some() {
            let message = "--password and --password-stdin are mutually exclusive";
            return Err(CliError::usage(message));
        }
        let user = args.username.clone().filter(|user| !user.is_empty());
        let user =
            user.ok_or_else(|| CliError::usage("Must provide --username with --password-stdin"))?;
        return Ok((user, read_password()?));
    }
    if args.password.is_some() {
        context
            .printer
            .err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
    }
    let missing = args.username.is_none() || args.password.is_none();
    if missing && !std::io::stdin().is_terminal() {
        return Err(CliError::usage(
            "Cannot perform an interactive login from a non TTY device",
        ));
    }
    // Not before: what is read from standard input above ends by the signal itself.
    let mut interrupts = Interrupts::listen()?;
    let failed = |source| CliError::System {
        attempted: "ask at the terminal",
        source,
    };
    let user = if let Some(user) = &args.username {
        user.clone()
    } else {
        let known = registry::known_user(&context.environment, server);
        let shown = known.as_ref().map(|user| format!(" ({user})"));
        let prompt = format!("Username{}: ", shown.unwrap_or_default());
        let typed = ask(&context.printer, &prompt, interrupts.next()).await;
        let typed = typed.map_err(failed)?.ok_or(CliError::Ended(130))?;
        if typed.is_empty() {
            known.unwrap_or_default()
        } else {
            typed
        }
    };
    if user.is_empty() {
        return Err(CliError::usage("Non-null Username Required"));
    }
    let password = if let Some(password) = &args.password {
        password.clone()
    } else {
        let typed = ask_hidden(&context.printer, "Password: ", interrupts.next()).await;
        typed.map_err(failed)?.ok_or(CliError::Ended(130))?
    };
    if password.is_empty() {
        return Err(CliError::usage("Password Required"));
    }
    Ok((user, password))
}

/// Reads standard input to its end; the line's end is not part of the password.
fn read_password() -> Result<String, CliError> {
    let mut text = String::new();
    let mut input = std::io::stdin().lock().take(MAX_PASSWORD_BYTES);
    let read = input.read_to_string(&mut text);
    read.map_err(|source| CliError::System {
        attempted: "read the password from standard input",
        source,
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
