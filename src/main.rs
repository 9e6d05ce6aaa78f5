//! The `billday` program; all of it is in the library.

fn main() -> std::process::ExitCode {
    billday::cli::main()
}
