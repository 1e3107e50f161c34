import Foundation
import Glibc

/// Checks of the running kernel.
enum KernelProbes {
  /// The first release with all features of userfaultfd write protection and cgroup v2 that Martlet uses.
  static let oldestRelease = (major: 5, minor: 10)
  static let controllers = ["cpu", "memory", "pids"]

  static func root(userID: uid_t = geteuid()) -> DoctorCheck {
    guard userID != 0 else { return DoctorCheck("root", .ok, "running as root") }
    return DoctorCheck(
      "root", .missing, "not running as root; network namespaces, cgroups and tap devices need it",
      remedy: "run the server with sudo")
  }

  static func release(_ text: String = Self.runningRelease()) -> DoctorCheck {
    let numbers = text.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
    guard numbers.count == 2 else {
      return DoctorCheck("kernel", .degraded, "the kernel version '\(text)' cannot be parsed")
    }
    guard (numbers[0], numbers[1]) >= (oldestRelease.major, oldestRelease.minor) else {
      return DoctorCheck(
        "kernel", .degraded, "Linux \(text) is older than \(oldestRelease.major).\(oldestRelease.minor)",
        remedy: "upgrade the kernel (Debian 12 has 6.1)")
    }
    return DoctorCheck("kernel", .ok, "Linux \(text)")
  }

  static func runningRelease() -> String {
    (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8))?.trimmingCharacters(
      in: .whitespacesAndNewlines)
      ?? "unknown"
  }

  static func userfaultfd() -> DoctorCheck {
    // VMMs have no privilege that the system call of the same name would need; they get the device.
    if access("/dev/userfaultfd", F_OK) == 0 {
      return DoctorCheck("userfaultfd", .ok, "the kernel can page memory from user space")
    }
    return DoctorCheck(
      "userfaultfd", .degraded, "there is no /dev/userfaultfd, so that nothing can be restored",
      remedy: "use Linux 6.1 or newer with CONFIG_USERFAULTFD", usedInstead: "cold boots")
  }

  static func tun(node: String = "/dev/net/tun") -> DoctorCheck {
    let descriptor = open(node, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else {
      return DoctorCheck(
        "tun", .missing, "\(node) cannot be opened: \(String(cString: strerror(errno)))",
        remedy: "modprobe tun; in a container, pass the device through")
    }
    close(descriptor)
    return DoctorCheck("tun", .ok, "\(node) opens")
  }

  /// unshare(2) needs CAP_SYS_ADMIN and a kernel with network namespaces. Source: capabilities(7), proc(5).
  static func networkNamespace(
    status: String? = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
    hasNamespaces: Bool = access("/proc/self/ns/net", F_OK) == 0
  ) -> DoctorCheck {
    guard hasNamespaces else {
      return DoctorCheck(
        "netns", .missing, "the kernel has no network namespaces", remedy: "use a kernel with CONFIG_NET_NS")
    }
    guard let capabilities = status.flatMap(effectiveCapabilities), capabilities & (1 << 21) != 0 else {
      return DoctorCheck(
        "netns", .missing, "network namespaces cannot be created without the capability CAP_SYS_ADMIN",
        remedy: "run as root; in a container, add the capability")
    }
    return DoctorCheck("netns", .ok, "network namespaces can be created")
  }

  private static func effectiveCapabilities(_ status: String) -> UInt64? {
    let line = status.split(separator: "\n").first { $0.hasPrefix("CapEff:") }
    return line.flatMap { UInt64($0.dropFirst("CapEff:".count).trimmingCharacters(in: .whitespaces), radix: 16) }
  }

  static func deviceMapper(node: String = "/dev/mapper/control") -> DoctorCheck {
    let descriptor = open(node, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else {
      return DoctorCheck(
        "device_mapper", .degraded, "\(node) cannot be opened: \(String(cString: strerror(errno)))",
        remedy: "modprobe dm_snapshot",
        usedInstead: "qcow2 overlays")
    }
    close(descriptor)
    return DoctorCheck("device_mapper", .ok, "\(node) opens")
  }

  static func controlGroups(mount: String = "/sys/fs/cgroup") -> DoctorCheck {
    guard let text = try? String(contentsOfFile: "\(mount)/cgroup.controllers", encoding: .utf8) else {
      return firstVersionControlGroups(mount: mount)
    }
    let present = Set(text.split(whereSeparator: \.isWhitespace).map(String.init))
    let absent = controllers.filter { !present.contains($0) }
    guard absent.isEmpty else {
      return DoctorCheck(
        "cgroup", .degraded, "version 2 without \(absent.joined(separator: ", "))",
        remedy: "enable the controllers in \(mount)/cgroup.subtree_control of the parent",
        usedInstead: "limits of the available controllers")
    }
    return DoctorCheck("cgroup", .ok, "version 2 with \(controllers.joined(separator: ", "))")
  }

  /// Checks cgroup version 1, which has one hierarchy per controller; VMMs are limited by the available ones.
  private static func firstVersionControlGroups(mount: String) -> DoctorCheck {
    let present = controllers.filter { access("\(mount)/\($0)/cgroup.procs", W_OK) == 0 }
    guard present.count < controllers.count else {
      return DoctorCheck("cgroup", .ok, "version 1 with \(present.joined(separator: ", "))")
    }
    return DoctorCheck(
      "cgroup", .degraded,
      present.isEmpty
        ? "no cgroup file system is mounted at \(mount)" : "version 1 with \(present.joined(separator: ", ")) only",
      remedy: "boot with systemd.unified_cgroup_hierarchy=1",
      usedInstead: present.isEmpty
        ? "the guest's memory size and vCPUs; the VMM process is not limited" : "limits of the available controllers"
    )
  }
}
