//! What a shell and `man` want to know of the command line, made from the command line itself.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output_file::{OutputFile, not_created};
use super::{Cli, Failure, Verdict, output};

/// Print what makes a shell complete ubdlab's commands and options
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  ubdlab completions bash >~/.local/share/bash-completion/completions/ubdlab
  mkdir -p ~/.zfunc
  ubdlab completions zsh >~/.zfunc/_ubdlab
  mkdir -p ~/.config/fish/completions
  ubdlab completions fish >~/.config/fish/completions/ubdlab.fish

bash finds its file where the package bash-completion is installed, fish always. zsh looks into
~/.zfunc if ~/.zshrc says so: fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit")]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

/// Write the manual pages into a directory, one a command
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Pages that are there already are replaced.

Examples:
  ubdlab man ~/.local/share/man/man1
  man ubdlab-image-resize
  man -l ~/.local/share/man/man1/ubdlab-image-resize.1

man looks below ~/.local/share/man by itself where ~/.local/bin is in PATH. Elsewhere name the file,
as above, or the directory above man1: MANPATH=~/.local/share/man: man ubdlab-image-resize")]
pub(super) struct Man {
    /// The directory, which is made if it is not there
    directory: PathBuf,
}

/// Runs `completions`.
pub(super) fn completions(args: &Completions) -> Result<Verdict, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ubdlab", &mut script);
    let script = String::from_utf8_lossy(&script);
    match args.shell {
        Shell::Bash => output::script(&options_when_begun(&script)),
        _ => output::script(&script),
    }
    Ok(Verdict::Good)
}

/// The script for bash with options among its proposals only where the word has begun: where it is
/// empty, the commands are wanted, or the names of files.
fn options_when_begun(script: &str) -> String {
    script
        .replace(
            "local i cur prev opts cmd\n",
            "local i cur prev opts cmd hidden\n",
        )
        .replace(
            "    prev=\"$3\"\n",
            "    prev=\"$3\"\n    hidden=\"\"\n    [[ -n ${cur} ]] || hidden=\"-*\"\n",
        )
        .replace(
            "compgen -W \"${opts}\" --",
            "compgen -W \"${opts}\" -X \"${hidden}\" --",
        )
}

/// Runs `man`.
pub(super) fn man(args: &Man) -> Result<Verdict, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let directory = &args.directory;
    std::fs::create_dir_all(directory).map_err(|error| not_created(directory, &error))?;
    pages(&command, &args.directory)?;
    Ok(Verdict::Good)
}

/// Writes the page of `command` and those of the commands below it.
fn pages(command: &clap::Command, directory: &Path) -> Result<(), Failure> {
    let page = clap_mangen::Man::new(command.clone().disable_help_subcommand(true))
        .source(concat!("ubdlab ", env!("CARGO_PKG_VERSION")));
    let path = directory.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text).map_err(Failure::operation)?;
    let text = String::from_utf8_lossy(&text).replace(".SH EXTRA\n", ".SH EXAMPLES\n");
    let text = with_synopsis(&text, &synopsis(command));
    OutputFile::create(&path)?.write_whole(&text)?;
    for below in command.get_subcommands() {
        pages(below, directory)?;
    }
    Ok(())
}

/// How the command is used, with the values that its options take.
fn synopsis(command: &clap::Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let lines = usage.lines().map(|line| line.trim().replace('-', "\\-"));
    lines.collect::<Vec<_>>().join("\n.br\n")
}

/// The page with this in its section SYNOPSIS.
fn with_synopsis(page: &str, synopsis: &str) -> String {
    const HEADING: &str = ".SH SYNOPSIS\n";
    let Some((before, rest)) = page.split_once(HEADING) else {
        return page.to_owned();
    };
    let after = rest.find("\n.SH ").map_or("", |at| &rest[at..]);
    format!("{before}{HEADING}{synopsis}{after}")
}
