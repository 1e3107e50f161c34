import Concurrency

/// A metric family of counters, one per combination of label values.
package final class Counter: MetricFamily {
  package let name: String
  package let help: String
  package let kind = MetricKind.counter
  private let labels: [String]
  private let values = Mutex([LabelSet: Double]())

  package init(_ name: String, help: String, labels: [String], in registry: MetricRegistry) {
    self.name = name
    self.help = help
    self.labels = labels
    registry.add(self)
  }

  package func increment(_ values: [String], by amount: Double = 1) {
    let key = LabelSet(labels, values)
    self.values.withLock { $0[bounded(key, among: $0.count, isKnown: $0[key] != nil), default: 0] += amount }
  }

  package func samples() -> [MetricSample] {
    values.withLock { $0 }.sorted { $0.key.values.lexicographicallyPrecedes($1.key.values) }
      .map { MetricSample(name: name, labels: $0.key, value: $0.value) }
  }
}

/// Returns `key`, or the overflow combination if the family has reached its maximum size.
func bounded(_ key: LabelSet, among count: Int, isKnown: Bool) -> LabelSet {
  guard !isKnown, count >= LabelSet.maximumPerFamily else { return key }
  return LabelSet(key.names, key.names.map { _ in LabelSet.overflow })
}
