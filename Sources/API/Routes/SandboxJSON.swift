import ControlPlane
import Foundation
import HostAPI
import Model
import Persistence

/// JSON representations of the API's resources.
enum Wire {
  /// Omits `envs`: they often hold secrets, and the client that set them knows them.
  static func sandbox(_ record: SandboxRecord) -> JSONValue {
    let spec = record.spec
    let facts = record.facts
    let json: JSONValue = [
      "id": .string(record.id.wire), "team_id": .string(record.teamID.wire), "status": .string(record.status.rawValue),
      "template": .string(spec.template.value), "vcpus": .integer(spec.vcpus), "memory_mb": .integer(spec.memoryMiB),
      "disk_size_mb": .integer(spec.diskSizeMiB), "timeout_sec": .integer(spec.timeoutSeconds),
      "auto_resume": .bool(record.autoResumes), "auto_paused": .bool(record.isAutoPaused),
      "metadata": .map(spec.metadata),
      "network": network(spec.network), "host_id": .optional(facts.hostID?.wire), "guest_ip": .optional(facts.guestIP),
      "host_ip": .optional(facts.hostIP), "isolation": isolation(facts),
      "created_at": .string(RFC3339.text(record.createdAt)),
      "started_at": time(facts.startedAt), "last_active_at": time(record.lastActiveAt),
      "last_updated": .string(RFC3339.text(record.lastUpdated)),
    ]
    return json.adding("error", record.error.map(JSONValue.string))
  }

  /// A sandbox with the durations of the operation's phases, in milliseconds.
  static func sandbox(_ result: SandboxResult) -> JSONValue {
    guard !result.timings.isEmpty else { return sandbox(result.record) }
    var phases: [JSONValue.Pair] = []
    for timing in result.timings where !phases.contains(where: { $0.name == timing.phase }) {
      let total = result.timings.filter { $0.phase == timing.phase }.reduce(0) { $0 + $1.milliseconds }
      phases.append(JSONValue.Pair(timing.phase, .number((total * 1_000).rounded() / 1_000)))
    }
    return sandbox(result.record).adding("timings_ms", .object(phases))
  }

  /// A template or a snapshot. A base template fits any shape; a snapshot has a fixed one.
  static func template(_ template: HostTemplate) -> JSONValue {
    let shape = template.shape
    return [
      "name": .string(template.name.value), "type": .string(template.kind.rawValue),
      "vcpus": shape.map { .integer($0.vcpus) } ?? .null,
      "memory_mb": shape.map { .integer($0.memoryMiB) } ?? .null,
      "disk_size_mb": shape.map { .integer($0.diskSizeMiB) } ?? .null,
      "size_bytes": .integer(template.sizeBytes), "created_at": .string(RFC3339.text(template.createdAt)),
      "platform": .bool(template.teamID == .platform),
    ]
  }

  static func process(_ process: GuestProcess) -> JSONValue {
    [
      "pid": .integer(Int64(process.pid)), "tag": .optional(process.tag), "cmd": .string(process.command),
      "args": .strings(process.arguments), "cwd": .optional(process.workingDirectory),
      "envs": .map(process.environment),
    ]
  }

  static func entry(_ entry: FileEntry) -> JSONValue {
    let json: JSONValue = [
      "name": .string(entry.name), "path": .string(entry.path), "type": .string(entry.kind.rawValue),
      "size": .integer(entry.sizeBytes),
      "mode": .integer(Int64(entry.mode)), "permissions": .string(entry.permissions), "owner": .string(entry.owner),
      "group": .string(entry.group), "modified_at": .string(RFC3339.text(entry.modifiedAt)),
    ]
    return json.adding("symlink_target", entry.symlinkTarget.map(JSONValue.string))
  }

  static func metrics(_ metrics: LoadSample) -> JSONValue {
    [
      "timestamp_unix": .integer(Int64(RFC3339.seconds(metrics.takenAt))), "cpu_pct": .number(metrics.cpuPercent),
      "mem_bytes": .integer(metrics.memoryBytes), "mem_total_bytes": .integer(metrics.memoryTotalBytes),
      "disk_bytes": .integer(metrics.diskBytes), "disk_total_bytes": .integer(metrics.diskTotalBytes),
    ]
  }

  static func statistics(_ statistics: UsageStatistics, _ range: StatisticsRange) -> JSONValue {
    [
      "range": .string(range.rawValue), "step_sec": .integer(Int64(range.step)), "now": usage(statistics.now),
      "peak": usage(statistics.peak),
      "series": .array(
        statistics.series.map { point in
          usage(point).adding("timestamp_unix", .integer(Int64(RFC3339.seconds(point.takenAt))))
        }),
    ]
  }

  private static func usage(_ sample: UsageSample) -> JSONValue {
    ["running": .integer(sample.running), "vcpus": .integer(sample.vcpus), "memory_mb": .integer(sample.memoryMiB)]
  }

  private static func network(_ policy: NetworkPolicy) -> JSONValue {
    ["egress": .bool(policy.allowsEgress), "allow": .strings(policy.allow), "deny": .strings(policy.deny)]
  }

  private static func isolation(_ facts: SandboxFacts) -> JSONValue {
    guard let vmm = facts.vmm, let accelerator = facts.accelerator else { return .null }
    return ["vmm": .string(vmm), "accelerator": .string(accelerator)]
  }

  private static func time(_ date: Date?) -> JSONValue {
    date.map { .string(RFC3339.text($0)) } ?? .null
  }
}
