import APIClient
import Glibc
import NIOCore

/// Reads a password: from a terminal without echo, else the first line of standard input.
enum SecretInput {
  private static let maximumBytes = 4_096

  /// - Throws: `invalid_input` for an empty password.
  static func read(_ prompt: String) async throws -> String {
    let context = CommandContext.current
    let reader = try InputReader(context.input)
    let secret: String
    do {
      if let terminal = Terminal(context.input) {
        await context.console.prompt(prompt)
        secret = try await terminal.withoutEcho { try await line(reader) }
        await context.console.prompt("\n")
      } else {
        secret = try await line(reader)
      }
    } catch {
      await reader.close()
      throw error
    }
    await reader.close()
    guard !secret.isEmpty else {
      throw APIError(.invalidInput, "the password is empty; type it, or give it on standard input")
    }
    return secret
  }

  private static func line(_ reader: InputReader) async throws -> String {
    var bytes: [UInt8] = []
    while let chunk = try await reader.read(maximumBytes: maximumBytes) {
      bytes += Array(chunk.readableBytesView)
      if bytes.contains(UInt8(ascii: "\n")) || bytes.count > maximumBytes { break }
    }
    let line = bytes.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
    guard line.count <= maximumBytes, let text = String(validating: line, as: UTF8.self) else {
      throw APIError(.invalidInput, "the password must be one line of UTF-8")
    }
    return text
  }
}

extension Terminal {
  /// Runs `body` with the terminal's echo off, and restores the mode afterwards.
  func withoutEcho<Result>(
    _ body: () async throws -> Result, isolation: isolated (any Actor)? = #isolation
  ) async throws -> Result {
    var saved = termios()
    guard tcgetattr(descriptor, &saved) == 0 else { throw OperatingSystemError("cannot read the terminal's mode") }
    var silent = saved
    silent.c_lflag &= ~tcflag_t(ECHO)
    guard tcsetattr(descriptor, TCSAFLUSH, &silent) == 0 else {
      throw OperatingSystemError("cannot change the terminal's mode")
    }
    defer { restore(saved) }
    return try await body()
  }
}
