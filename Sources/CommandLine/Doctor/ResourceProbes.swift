import Foundation
import Glibc

/// Checks of disk space and memory.
enum ResourceProbes {
  static let minimumDiskBytes: Int64 = 2 << 30
  static let recommendedDiskBytes: Int64 = 10 << 30
  static let minimumMemoryBytes: Int64 = 512 << 20
  static let recommendedMemoryBytes: Int64 = 2 << 30

  static func disk(_ name: String, directory: String) -> DoctorCheck {
    let existing = nearestExisting(directory)
    var status = statvfs()
    guard statvfs(existing, &status) == 0 else {
      return DoctorCheck(
        name, .missing, "the file system of \(existing) cannot be examined: \(String(cString: strerror(errno)))",
        remedy: "choose another directory")
    }
    return disk(name, directory: directory, freeBytes: Int64(status.f_bavail) * Int64(status.f_frsize))
  }

  static func disk(_ name: String, directory: String, freeBytes: Int64) -> DoctorCheck {
    let finding = "\(Formatting.bytes(freeBytes)) free for \(directory)"
    let remedy = "free disk space, or choose another directory with --data-dir and --image-dir"
    if freeBytes < minimumDiskBytes { return DoctorCheck(name, .missing, finding, remedy: remedy) }
    if freeBytes < recommendedDiskBytes { return DoctorCheck(name, .degraded, finding, remedy: remedy) }
    return DoctorCheck(name, .ok, finding)
  }

  static func memory(_ text: String? = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)) -> DoctorCheck {
    guard let bytes = text.flatMap(availableBytes) else {
      return DoctorCheck("memory", .degraded, "/proc/meminfo has no MemAvailable")
    }
    let finding = "\(Formatting.bytes(bytes)) available"
    if bytes < minimumMemoryBytes {
      return DoctorCheck("memory", .missing, finding, remedy: "free memory; a sandbox takes 512 MiB by default")
    }
    if bytes < recommendedMemoryBytes {
      return DoctorCheck("memory", .degraded, finding, remedy: "free memory; only a few sandboxes fit")
    }
    return DoctorCheck("memory", .ok, finding)
  }

  static func availableBytes(_ text: String) -> Int64? {
    for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
      let words = line.split(separator: " ")
      guard words.count >= 2, let kibibytes = Int64(words[1]), kibibytes <= Int64.max >> 10 else { return nil }
      return kibibytes << 10
    }
    return nil
  }

  /// The nearest existing ancestor of a directory that may not exist yet.
  static func nearestExisting(_ directory: String) -> String {
    var path = directory
    while path.count > 1, access(path, F_OK) != 0 {
      path = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }
    return path.isEmpty ? "/" : path
  }
}
