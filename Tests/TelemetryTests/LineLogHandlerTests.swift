import Concurrency
import Logging
import Testing

@testable import Telemetry

@Suite("Line log handler")
struct LineLogHandlerTests {
  private final class Lines: Sendable {
    let all = Mutex([String]())
  }

  private let lines = Lines()

  private var logger: Logger {
    Logger(label: "test") { [lines] label in
      LineLogHandler(label: label) { line in lines.all.withLock { $0.append(line) } }
    }
  }

  /// The part of a line after the time.
  private var last: String? {
    lines.all.withLock { $0.last }.map { String($0.drop { $0 != " " }.dropFirst()) }
  }

  @Test("pairs are sorted by key, the event's pairs take precedence, and lower levels are omitted")
  func form() throws {
    var logger = logger
    logger[metadataKey: "b"] = "two"
    logger[metadataKey: "a"] = "one"
    logger.debug("unheard")
    logger.notice("hello", metadata: ["b": "three"], source: "Room")
    #expect(last == "notice test: a=one b=three [Room] hello\n")
    #expect(lines.all.withLock { $0.count } == 1)
    let time = try #require(lines.all.withLock { $0.first }?.prefix { $0 != " " })
    #expect(time.count == 20 && time.hasSuffix("Z"))
  }

  @Test(
    "text from a tenant or a guest stays one line and one value",
    arguments: [
      ("two words", "\"two words\""), ("", "\"\""), ("a=b", "\"a=b\""), ("say \"x\"", "\"say \\\"x\\\"\""),
      ("a\nerror forged", "\"a\\nerror forged\""), ("\u{1b}[31m", "\"\\u{1b}[31m\""), ("a\u{2028}b", "\"a\\u{2028}b\""),
      ("\u{202e}evil", "\"\\u{202e}evil\""), ("größe", "größe"),
    ])
  func hostileValue(value: String, shown: String) {
    logger.info("said", metadata: ["text": "\(value)"], source: "Room")
    #expect(last == "info test: text=\(shown) [Room] said\n")
  }

  @Test("a message with a line break stays one line")
  func hostileMessage() {
    logger.info("one\ntwo\r\u{0}", source: "Room")
    #expect(last == "info test: [Room] one\\ntwo\\u{d}\\u{0}\n")
  }

  @Test("an error becomes a pair")
  func error() {
    struct Failure: Error, CustomStringConvertible {
      let description = "disk full"
    }
    logger.error("stopped", error: Failure(), source: "Room")
    #expect(last == "error test: error=\"disk full\" [Room] stopped\n")
  }
}
