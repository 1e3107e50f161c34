import Testing

@testable import Telemetry

@Suite struct TelemetryTests {
  @Test("the text has the Prometheus format: help, type, samples, in a stable order")
  func text() {
    let registry = MetricRegistry()
    let counter = Counter("calls_total", help: "Calls.", labels: ["verb", "outcome"], in: registry)
    counter.increment(["b", "ok"])
    counter.increment(["a", "ok"], by: 2)
    Gauge("level", help: "Now.", labels: [], in: registry).set(1.5, [])
    #expect(
      registry.text() == """
        # HELP calls_total Calls.
        # TYPE calls_total counter
        calls_total{verb="a",outcome="ok"} 2
        calls_total{verb="b",outcome="ok"} 1
        # HELP level Now.
        # TYPE level gauge
        level 1.5

        """)
  }

  @Test("buckets are cumulative, a value on a bound belongs to it, and the last bucket holds all")
  func histogram() {
    let registry = MetricRegistry()
    let histogram = Histogram("d", help: "", bounds: [1, 2], labels: ["p"], in: registry)
    for value in [0, 1, 1.5, 7] { histogram.observe(value, ["x"]) }
    for value in [Double.nan, .infinity, -1] { histogram.observe(value, ["x"]) }
    let values = histogram.samples().map { "\($0.name)\($0.labels.text) \($0.value)" }
    #expect(
      values == [
        "d_bucket{p=\"x\",le=\"1\"} 2.0", "d_bucket{p=\"x\",le=\"2\"} 3.0", "d_bucket{p=\"x\",le=\"+Inf\"} 4.0",
        "d_sum{p=\"x\"} 9.5",
        "d_count{p=\"x\"} 4.0",
      ])
  }

  @Test("quotes, backslashes and line breaks in labels and help cannot break the format")
  func escaping() {
    let registry = MetricRegistry()
    Counter("c", help: "a\\b\nc", labels: ["l"], in: registry).increment(["\"\\\n"])
    #expect(registry.text() == "# HELP c a\\\\b\\nc\n# TYPE c counter\nc{l=\"\\\"\\\\\\n\"} 1\n")
  }

  @Test("a family holds at most the maximum number of combinations and the overflow")
  func bound() {
    let registry = MetricRegistry()
    let counter = Counter("c", help: "", labels: ["l"], in: registry)
    for number in 0..<2_000 { counter.increment(["\(number)"]) }
    let samples = counter.samples()
    #expect(samples.count == LabelSet.maximumPerFamily + 1)
    #expect(
      samples.first { $0.labels.values == [LabelSet.overflow] }?.value == Double(2_000 - LabelSet.maximumPerFamily))
  }

  @Test("counting from many tasks loses nothing")
  func concurrent() async {
    let registry = MetricRegistry()
    let counter = Counter("c", help: "", labels: [], in: registry)
    await withDiscardingTaskGroup { group in
      for _ in 0..<8 { group.addTask { for _ in 0..<500 { counter.increment([]) } } }
    }
    #expect(counter.samples().map(\.value) == [4_000])
  }
}
