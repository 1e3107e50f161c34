import CLinux
import Concurrency
import Glibc
import HTTPTypes
package import Hummingbird
package import LinuxSystem

/// The read-only routes `/health`, `/envs` and `/metrics`.
package struct StatusRoutes: Sendable {
  private let state: GuestState
  private let sampler: MetricsSampler

  package init(state: GuestState, sampler: MetricsSampler) {
    self.state = state
    self.sampler = sampler
  }

  package func register(on router: Router<AgentRequestContext>) {
    router.get("/health") { _, _ in Response(status: .noContent) }
    router.head("/health") { _, _ in Response(status: .noContent) }
    router.get("/envs") { _, _ in JSONBody.response(state.identity.visibleEnvironment) }
    router.get("/metrics") { _, _ in
      do {
        return JSONBody.response(try sampler.sample())
      } catch {
        throw AgentError(.internalServerError, "the guest's metrics cannot be read")
      }
    }
  }
}

extension GuestState.Identity {
  /// The variables that every user process gets, independent of its user.
  package var visibleEnvironment: [String: String] {
    var variables = ["E2B_SANDBOX": "true"]
    variables["E2B_SANDBOX_ID"] = sandboxID
    variables["E2B_TEMPLATE_ID"] = templateID
    return variables.merging(environment) { $1 }
  }
}

/// Body of `GET /metrics`. Source: E2B's envd contract
package struct MetricsResponse: Sendable, Equatable, Encodable {
  /// Seconds since 1970.
  package var timestamp: Int64
  package var cpuCount: Int
  /// 0...100, of all CPUs together, since the previous sample (the first one: since boot).
  package var cpuUsedPercent: Double
  package var memoryTotalBytes: Int64
  package var memoryUsedBytes: Int64
  package var memoryCacheBytes: Int64
  package var diskTotalBytes: Int64
  package var diskUsedBytes: Int64

  private var memoryTotalMiB: Int64 { memoryTotalBytes / 1_048_576 }
  private var memoryUsedMiB: Int64 { memoryUsedBytes / 1_048_576 }

  private enum CodingKeys: String, CodingKey {
    case timestamp = "ts"
    case cpuCount = "cpu_count"
    case cpuUsedPercent = "cpu_used_pct"
    case memoryTotalBytes = "mem_total"
    case memoryUsedBytes = "mem_used"
    case memoryCacheBytes = "mem_cache"
    case memoryTotalMiB = "mem_total_mib"
    case memoryUsedMiB = "mem_used_mib"
    case diskUsedBytes = "disk_used"
    case diskTotalBytes = "disk_total"
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(timestamp, forKey: .timestamp)
    try container.encode(cpuCount, forKey: .cpuCount)
    try container.encode(cpuUsedPercent, forKey: .cpuUsedPercent)
    try container.encode(memoryTotalBytes, forKey: .memoryTotalBytes)
    try container.encode(memoryUsedBytes, forKey: .memoryUsedBytes)
    try container.encode(memoryCacheBytes, forKey: .memoryCacheBytes)
    try container.encode(memoryTotalMiB, forKey: .memoryTotalMiB)
    try container.encode(memoryUsedMiB, forKey: .memoryUsedMiB)
    try container.encode(diskUsedBytes, forKey: .diskUsedBytes)
    try container.encode(diskTotalBytes, forKey: .diskTotalBytes)
  }
}

/// Counters of /proc/stat, in clock ticks of all CPUs together. Source: proc_stat(5).
package struct ProcessorTimes: Sendable, Equatable {
  package var busy: UInt64 = 0
  package var total: UInt64 = 0
  package var cpuCount = 0

  /// nil when the text does not have the format of /proc/stat.
  package init?(procStat text: String) {
    let lines = text.split(separator: "\n")
    guard let first = lines.first, first.hasPrefix("cpu ") else { return nil }
    // user nice system idle iowait irq softirq steal; guest times are contained in user and nice.
    let fields = first.split(separator: " ").dropFirst().prefix(8).compactMap { UInt64($0) }
    guard fields.count >= 5 else { return nil }
    total = fields.reduce(0, &+)
    busy = total &- fields[3] &- fields[4]
    cpuCount = lines.filter { $0.hasPrefix("cpu") && !$0.hasPrefix("cpu ") }.count
  }

  /// Percentage of the time since `earlier` (nil: since boot) that was not idle.
  package func usedPercent(since earlier: ProcessorTimes?) -> Double {
    let elapsed = total &- (earlier?.total ?? 0)
    guard elapsed > 0, total >= (earlier?.total ?? 0), busy >= (earlier?.busy ?? 0) else { return 0 }
    return (Double(busy - (earlier?.busy ?? 0)) * 10_000 / Double(elapsed)).rounded() / 100
  }
}

/// Takes samples. Keeps the last CPU times to compute the usage between two samples.
package final class MetricsSampler: Sendable {
  private let previous = Mutex<ProcessorTimes?>(nil)

  package init() {}

  /// Reads only /proc and calls statvfs(2), which do not block for long.
  package func sample() throws(SystemError) -> MetricsResponse {
    let memory = MemoryInformation(procMeminfo: try SmallFile.readText("/proc/meminfo"))
    let times = ProcessorTimes(procStat: try SmallFile.readText("/proc/stat"))
    let percent = previous.withLock { previous in
      defer { previous = times }
      return times?.usedPercent(since: previous) ?? 0
    }
    var disk = statvfs()
    try SystemError.check("statvfs", "/") { statvfs("/", &disk) }
    let block = Int64(disk.f_frsize)
    return MetricsResponse(
      timestamp: Int64(time(nil)), cpuCount: times?.cpuCount ?? 0, cpuUsedPercent: percent,
      memoryTotalBytes: memory.total,
      memoryUsedBytes: memory.used, memoryCacheBytes: memory.cache, diskTotalBytes: Int64(disk.f_blocks) * block,
      diskUsedBytes: Int64(disk.f_blocks - disk.f_bfree) * block)
  }
}

/// Numbers of /proc/meminfo, in bytes. Source: proc_meminfo(5).
package struct MemoryInformation: Sendable, Equatable {
  package var total: Int64
  package var available: Int64
  /// Page cache, buffers and reclaimable slab.
  package var cache: Int64

  /// Memory that cannot be reclaimed without swapping.
  package var used: Int64 { max(0, total - available) }

  package init(procMeminfo text: String) {
    var values: [Substring: Int64] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count >= 2, let kibibytes = Int64(words[1]) else { continue }
      values[words[0].dropLast()] = kibibytes * 1024
    }
    total = values["MemTotal"] ?? 0
    available = values["MemAvailable"] ?? values["MemFree"] ?? 0
    cache = (values["Cached"] ?? 0) + (values["Buffers"] ?? 0) + (values["SReclaimable"] ?? 0)
  }
}
