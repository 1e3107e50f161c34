import Concurrency

/// The metrics of one process and their text in the Prometheus exposition format.
///
/// Label values must come from closed sets. A family holds at most `LabelSet.maximumPerFamily` combinations and counts
/// further ones under one overflow combination, so that label values cannot exhaust the memory.
///
/// Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format (version 0.0.4)
package final class MetricRegistry: Sendable {
  package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  private let families = Mutex([any MetricFamily]())

  package init() {}

  /// Adds a family; the text lists families in the order of their addition.
  package func add(_ family: any MetricFamily) {
    families.withLock { $0.append(family) }
  }

  package func text() -> String {
    let families = families.withLock { $0 }
    return families.map { family in
      let lines = family.samples().map { sample in
        "\(sample.name)\(sample.labels.text) \(Self.text(sample.value))\n"
      }
      return "# HELP \(family.name) \(Self.escaped(family.help))\n# TYPE \(family.name) \(family.kind.rawValue)\n"
        + lines.joined()
    }.joined()
  }

  static func text(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    return Int64(exactly: value).map(String.init) ?? String(value)
  }

  private static func escaped(_ help: String) -> String {
    help.split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\")
      .split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\\n")
  }
}

/// All time series with one name.
package protocol MetricFamily: Sendable {
  var name: String { get }
  var help: String { get }
  var kind: MetricKind { get }
  func samples() -> [MetricSample]
}

package enum MetricKind: String, Sendable {
  case counter
  case gauge
  case histogram
}

package struct MetricSample: Sendable, Equatable {
  package var name: String
  package var labels: LabelSet
  package var value: Double
}

/// Names and values of a family's labels.
package struct LabelSet: Sendable, Hashable {
  /// Maximum number of combinations in one family.
  package static let maximumPerFamily = 512
  /// Value of every label in the overflow combination.
  package static let overflow = "other"

  package var names: [String]
  package var values: [String]

  package init(_ names: [String], _ values: [String]) {
    precondition(names.count == values.count, "every label has a value")
    self.names = names
    self.values = values
  }

  func adding(_ name: String, _ value: String) -> LabelSet {
    LabelSet(names + [name], values + [value])
  }

  var text: String {
    guard !names.isEmpty else { return "" }
    return "{" + zip(names, values).map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",") + "}"
  }

  private static func escaped(_ value: String) -> String {
    value.reduce(into: "") { text, character in
      switch character {
      case "\\": text += "\\\\"
      case "\"": text += "\\\""
      case "\n": text += "\\n"
      default: text.append(character)
      }
    }
  }
}
