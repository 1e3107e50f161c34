import Concurrency
import Foundation
package import Logging

/// Writes each log event as one line: time, level, label, `key=value` pairs sorted by key, source, message.
///
/// Values and messages may contain text from tenants and guests: values that are not a single word are quoted and
/// control characters are escaped, so that such text cannot forge a log line. Metadata is formatted only when a line is
/// written, because every request adds its id to a logger and few requests log.
package struct LineLogHandler: LogHandler {
  package var logLevel = Logger.Level.info
  package var metadata: Logger.Metadata = [:]
  package var metadataProvider: Logger.MetadataProvider?

  private let label: String
  private let write: @Sendable (String) -> Void

  /// - Parameter write: receives a line with its line break.
  package init(label: String, write: @escaping @Sendable (String) -> Void) {
    self.label = label
    self.write = write
  }

  /// A handler that writes to standard error, each line with one system call.
  package static func standardError(label: String) -> LineLogHandler {
    LineLogHandler(label: label) { line in
      try? FileHandle.standardError.write(contentsOf: Data(line.utf8))
    }
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    var all = metadata
    all.merge(metadataProvider?.get() ?? [:]) { $1 }
    all.merge(event.metadata ?? [:]) { $1 }
    if let error = event.error { all["error"] = "\(error)" }
    let pairs = all.sorted { $0.key < $1.key }.map { " \($0.key)=\(Self.shown($0.value.description))" }.joined()
    write(
      "\(Self.time()) \(event.level) \(label):\(pairs) [\(event.source)] \(Self.escaped(event.message.description))\n")
  }

  private static func time() -> String {
    Date().formatted(.iso8601)
  }

  /// The value, in quotes unless it is a single word.
  private static func shown(_ value: String) -> String {
    let isPlain =
      !value.isEmpty && value.unicodeScalars.allSatisfy { $0.value > 0x20 && $0 != "\"" && $0 != "=" && !isControl($0) }
    guard !isPlain else { return value }
    return "\"" + escaped(value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")) + "\""
  }

  private static func escaped(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return text.unicodeScalars.reduce(into: "") { line, scalar in
      switch scalar {
      case "\n": line += "\\n"
      case _ where isControl(scalar): line += "\\u{\(String(scalar.value, radix: 16))}"
      default: line.unicodeScalars.append(scalar)
      }
    }
  }

  /// Includes characters that change the direction of text and Unicode line separators.
  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }
}
