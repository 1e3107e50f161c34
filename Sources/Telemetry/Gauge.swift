import Concurrency

/// A metric family of gauges, one per combination of label values.
package final class Gauge: MetricFamily {
  package let name: String
  package let help: String
  package let kind = MetricKind.gauge
  private let labels: [String]
  private let values = Mutex([LabelSet: Double]())

  package init(_ name: String, help: String, labels: [String], in registry: MetricRegistry) {
    self.name = name
    self.help = help
    self.labels = labels
    registry.add(self)
  }

  package func set(_ value: Double, _ values: [String]) {
    let key = LabelSet(labels, values)
    self.values.withLock { $0[bounded(key, among: $0.count, isKnown: $0[key] != nil)] = value }
  }

  package func samples() -> [MetricSample] {
    values.withLock { $0 }.sorted { $0.key.values.lexicographicallyPrecedes($1.key.values) }
      .map { MetricSample(name: name, labels: $0.key, value: $0.value) }
  }
}
