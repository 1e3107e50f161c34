import Glibc
package import SystemPackage

/// The control group hierarchies of this host: the unified hierarchy (v2), or one hierarchy per controller (v1).
///
/// Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
package struct CgroupHierarchy: Sendable, Equatable {
  package enum Version: String, Sendable {
    case unified
    case perController
  }

  package let version: Version
  /// Controller → directory of its root.
  package let roots: [String: FilePath]

  private static let controllers = ["memory", "cpu", "pids"]

  /// Detects the hierarchy under /sys/fs/cgroup; nil when it has none of the controllers in use.
  package static func detect(mount: FilePath = "/sys/fs/cgroup") -> CgroupHierarchy? {
    if let text = try? SmallFile.readText(mount.appending("cgroup.controllers").string) {
      let present = text.split(whereSeparator: \.isWhitespace).map(String.init).filter(controllers.contains)
      guard !present.isEmpty else { return nil }
      return CgroupHierarchy(version: .unified, roots: Dictionary(uniqueKeysWithValues: present.map { ($0, mount) }))
    }
    let present = controllers.filter { access(mount.appending($0).appending("cgroup.procs").string, W_OK) == 0 }
    guard !present.isEmpty else { return nil }
    return CgroupHierarchy(
      version: .perController, roots: Dictionary(uniqueKeysWithValues: present.map { ($0, mount.appending($0)) }))
  }

  package init(version: Version, roots: [String: FilePath]) {
    self.version = version
    self.roots = roots
  }
}

package struct CgroupLimits: Sendable, Equatable {
  package var memoryBytes: Int64?
  /// In hundredths of one CPU.
  package var cpuPercent: Int?
  package var processes: Int?

  package init(memoryBytes: Int64? = nil, cpuPercent: Int? = nil, processes: Int? = nil) {
    self.memoryBytes = memoryBytes
    self.cpuPercent = cpuPercent
    self.processes = processes
  }
}

/// One control group, `PARENT/NAME`, in every hierarchy in use.
package struct Cgroup: Sendable, Equatable {
  package static let parentName = "martlet"
  private static let cpuPeriodMicroseconds = 100_000
  private static let removalAttempts = 50

  package let hierarchy: CgroupHierarchy
  package let parent: String
  package let name: String

  package init(hierarchy: CgroupHierarchy, name: String, parent: String = Cgroup.parentName) {
    self.hierarchy = hierarchy
    self.name = name
    self.parent = parent
  }

  /// Makes the group and sets its limits. An existing group of this name is reused.
  package func create(limits: CgroupLimits) throws(SystemError) {
    for directory in directories() {
      try Directories.create(directory.removingLastComponent())
      if hierarchy.version == .unified { try delegateControllers(to: directory.removingLastComponent()) }
      try Directories.create(directory)
    }
    switch hierarchy.version {
    case .unified: try applyUnified(limits)
    case .perController: try applyPerController(limits)
    }
  }

  /// Opens the `cgroup.procs` files, through which a child joins the group before it executes its program.
  package func joinDescriptors() throws(SystemError) -> [OwnedDescriptor] {
    var descriptors: [OwnedDescriptor] = []
    for directory in directories() {
      descriptors.append(try OwnedDescriptor.open(directory.appending("cgroup.procs").string, O_WRONLY))
    }
    return descriptors
  }

  /// Processes of the group; none when the group does not exist.
  /// - Throws: when the group cannot be read for any other reason.
  package func processes() throws(SystemError) -> [Int32] {
    guard let directory = directories().first else { return [] }
    do throws(SystemError) {
      return try SmallFile.readText(directory.appending("cgroup.procs").string).split(separator: "\n").compactMap {
        Int32($0)
      }
    } catch {
      // ENODEV: the group was removed between open(2) and read(2).
      guard error.errno == .noSuchFileOrDirectory || error.errno == Errno(rawValue: ENODEV) else { throw error }
      return []
    }
  }

  /// Bytes charged to the group, including page cache; nil without a memory controller.
  package func memoryBytes() -> Int64? {
    guard let root = hierarchy.roots["memory"] else { return nil }
    let file = hierarchy.version == .unified ? "memory.current" : "memory.usage_in_bytes"
    let text = try? SmallFile.readText(root.appending(parent).appending(name).appending(file).string)
    return text.flatMap { Int64($0.split(whereSeparator: \.isWhitespace).first ?? "") }
  }

  /// Whether the kernel has killed a process of the group because of the memory limit.
  package func wasOutOfMemory() -> Bool {
    guard let root = hierarchy.roots["memory"] else { return false }
    let file = hierarchy.version == .unified ? "memory.events" : "memory.oom_control"
    guard let text = try? SmallFile.readText(root.appending(parent).appending(name).appending(file).string) else {
      return false
    }
    return text.split(separator: "\n").contains { line in
      let words = line.split(separator: " ")
      return words.count == 2 && words[0] == "oom_kill" && words[1] != "0"
    }
  }

  /// Removes the group; its processes must have ended. An absent group is success.
  package func remove() async throws(SystemError) {
    for directory in directories() {
      for attempt in 1... {
        if rmdir(directory.string) == 0 || errno == ENOENT { break }
        // A group stays busy for a moment after its last process was reaped.
        guard errno == EBUSY, attempt < Self.removalAttempts else {
          throw SystemError.current("rmdir", subject: directory.string)
        }
        try? await Task.sleep(for: .milliseconds(10))
      }
    }
  }

  /// Names of the groups below `parent`.
  package static func existingNames(
    in hierarchy: CgroupHierarchy, parent: String = Cgroup.parentName
  ) throws(SystemError) -> [String] {
    var names: Set<String> = []
    for root in Set(hierarchy.roots.values) {
      let directory = root.appending(parent)
      for name in try Directories.names(in: directory)
      where try FileStatus.of(directory.appending(name).string, followingLinks: false)?.kind == .directory {
        names.insert(name)
      }
    }
    return names.sorted()
  }

  /// Removes the directory that contains the groups. Does nothing while it contains groups; an absent directory is
  /// success.
  package static func removeParent(_ parent: String, in hierarchy: CgroupHierarchy) throws(SystemError) {
    for root in Set(hierarchy.roots.values) {
      let directory = root.appending(parent).string
      if rmdir(directory) == 0 || errno == ENOENT || errno == EBUSY { continue }
      throw SystemError.current("rmdir", subject: directory)
    }
  }

  private func directories() -> [FilePath] {
    Set(hierarchy.roots.values).map { $0.appending(parent).appending(name) }.sorted { $0.string < $1.string }
  }

  private func delegateControllers(to parentDirectory: FilePath) throws(SystemError) {
    let wanted = hierarchy.roots.keys.sorted().map { "+\($0)" }.joined(separator: " ")
    for directory in [parentDirectory.removingLastComponent(), parentDirectory] {
      try SmallFile.write(wanted, to: directory.appending("cgroup.subtree_control").string)
    }
  }

  private func applyUnified(_ limits: CgroupLimits) throws(SystemError) {
    if let memory = limits.memoryBytes { try set("memory.max", "\(memory)", controller: "memory") }
    if let cpu = limits.cpuPercent {
      try set("cpu.max", "\(cpu * Self.cpuPeriodMicroseconds / 100) \(Self.cpuPeriodMicroseconds)", controller: "cpu")
    }
    if let processes = limits.processes { try set("pids.max", "\(processes)", controller: "pids") }
  }

  private func applyPerController(_ limits: CgroupLimits) throws(SystemError) {
    if let memory = limits.memoryBytes { try set("memory.limit_in_bytes", "\(memory)", controller: "memory") }
    if let cpu = limits.cpuPercent {
      try set("cpu.cfs_period_us", "\(Self.cpuPeriodMicroseconds)", controller: "cpu")
      try set("cpu.cfs_quota_us", "\(cpu * Self.cpuPeriodMicroseconds / 100)", controller: "cpu")
    }
    if let processes = limits.processes { try set("pids.max", "\(processes)", controller: "pids") }
  }

  private func set(_ file: String, _ value: String, controller: String) throws(SystemError) {
    guard let root = hierarchy.roots[controller] else { return }
    let path = root.appending(parent).appending(name).appending(file).string
    // Kernels can be built without CPU bandwidth control; the file for that limit is then missing.
    guard access(path, F_OK) == 0 else { return }
    try SmallFile.write(value, to: path)
  }
}
