import Concurrency

/// A metric family of histograms, one per combination of label values.
package final class Histogram: MetricFamily {
  package let name: String
  package let help: String
  package let kind = MetricKind.histogram
  /// Upper bounds of the buckets, ascending; a further bucket counts larger values.
  private let bounds: [Double]
  private let labels: [String]
  private let distributions = Mutex([LabelSet: Distribution]())

  private struct Distribution {
    var counts: [Int]
    var sum = 0.0
  }

  package init(_ name: String, help: String, bounds: [Double], labels: [String], in registry: MetricRegistry) {
    precondition(zip(bounds, bounds.dropFirst()).allSatisfy(<), "bounds of a histogram must ascend")
    self.name = name
    self.help = help
    self.bounds = bounds
    self.labels = labels
    registry.add(self)
  }

  /// Adds a value; ignores negative values, NaN and infinity.
  package func observe(_ value: Double, _ values: [String]) {
    guard value.isFinite, value >= 0 else { return }
    let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
    let key = LabelSet(labels, values)
    distributions.withLock { distributions in
      let key = bounded(key, among: distributions.count, isKnown: distributions[key] != nil)
      distributions[key, default: Distribution(counts: Array(repeating: 0, count: bounds.count + 1))].counts[bucket] +=
        1
      distributions[key]?.sum += value
    }
  }

  package func samples() -> [MetricSample] {
    distributions.withLock { $0 }.sorted { $0.key.values.lexicographicallyPrecedes($1.key.values) }
      .flatMap { samples(of: $0.value, $0.key) }
  }

  /// The samples of one histogram; buckets are cumulative in the Prometheus format.
  private func samples(of distribution: Distribution, _ labels: LabelSet) -> [MetricSample] {
    var total = 0
    var samples: [MetricSample] = []
    for (bound, count) in zip(bounds + [.infinity], distribution.counts) {
      total += count
      let limit = MetricRegistry.text(bound)
      samples.append(MetricSample(name: "\(name)_bucket", labels: labels.adding("le", limit), value: Double(total)))
    }
    samples.append(MetricSample(name: "\(name)_sum", labels: labels, value: distribution.sum))
    samples.append(MetricSample(name: "\(name)_count", labels: labels, value: Double(total)))
    return samples
  }
}
