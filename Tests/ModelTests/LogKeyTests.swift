import Foundation
import Testing

/// Compares the log metadata keys in the sources with the list in docs/logging.md.
@Suite struct LogKeyTests {
  private static let checkout = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// The keys of the list's table.
  private static func listed() throws -> Set<String> {
    let text = try String(contentsOf: checkout.appending(path: "docs/logging.md"), encoding: .utf8)
    let list = try #require(text.split(separator: "## Keys").last)
    var keys: Set<String> = []
    for line in list.split(separator: "\n") where line.hasPrefix("| `") {
      let cell = try #require(line.split(separator: "|").first)
      keys.formUnion(cell.matches(of: /`([a-z.]+)`/).map { String($0.1) })
    }
    return keys
  }

  /// The keys that Swift sources write as literals or define as constants, with a file for each.
  private static func used() throws -> [String: String] {
    var keys: [String: String] = [:]
    let sources = checkout.appending(path: "Sources")
    let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
    for case let file as URL in files where file.pathExtension == "swift" && !file.path.contains("/Generated/") {
      let text = try String(contentsOf: file, encoding: .utf8)
      for key in literals(text) { keys[key] = file.lastPathComponent }
      guard file.lastPathComponent == "LogKey.swift" else { continue }
      for match in text.matches(of: /static let \w+ = "([^"]+)"/) { keys[String(match.1)] = file.lastPathComponent }
    }
    return keys
  }

  /// The literal keys of `metadata:` arguments and `metadataKey:` subscripts. A value is an interpolated string, which
  /// distinguishes log metadata from other dictionaries.
  private static func literals(_ text: String) -> [String] {
    var keys = text.matches(of: /metadataKey: "([^"]+)"/).map { String($0.1) }
    for start in text.matches(of: /metadata: \[/) {
      var depth = 1
      let block = text[start.range.upperBound...].prefix { character in
        depth += character == "[" ? 1 : character == "]" ? -1 : 0
        return depth > 0
      }
      keys += block.matches(of: /"([A-Za-z_.]+)":\s*"/).map { String($0.1) }
    }
    return keys
  }

  @Test("every log key in the sources is in the list, and every listed key is used")
  func list() throws {
    let (listed, used) = (try Self.listed(), try Self.used())
    #expect(listed.count > 20 && used["error"] != nil)
    for (key, file) in used where !listed.contains(key) { Issue.record("\(key) in \(file) is not in docs/logging.md") }
    #expect(listed.subtracting(used.keys).isEmpty)
  }

  @Test("the scan finds literal keys, and no other dictionaries")
  func scan() {
    let text = #"""
      logger.info("x", metadata: ["a.b": "\(one)", LogKey.error: "\(two[0])", "c": "\(three)"])
      logger[metadataKey: "d"] = "\(four)"
      let metadata: [String: String] = [:]
      """#
    #expect(Self.literals(text).sorted() == ["a.b", "c", "d"])
  }
}
