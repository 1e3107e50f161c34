import Concurrency
import Glibc
import Hypervisor
import LinuxSystem
import Model
import SystemPackage

/// The file system that VMMs see: QEMU with its libraries and firmware and four devices, all read-only, and nothing
/// else of the host. What one VMM sees on top of it (its kernel, its run directory) only its own copy has.
///
/// It is put together once; the start of a VMM copies a few dozen mounts, which takes a fraction of a millisecond.
struct VMMRoot: Sendable {
  static let kernel = "/kernel"
  static let initramfs = "/initramfs"
  private static let loader = "/lib64/ld-linux-x86-64.so.2"
  private static let loaderCache = "/etc/ld.so.cache"
  /// Directories that are symbolic links where /usr is merged.
  private static let rootLinks = ["bin", "sbin", "lib", "lib64"]
  private static let moduleDirectories = [
    "/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib64/qemu", "/usr/lib/qemu", "/usr/local/lib/x86_64-linux-gnu/qemu",
    "/usr/local/lib/qemu",
  ]
  private static let firmwareDirectories = ["/usr/share/qemu", "/usr/share/seabios", "/usr/local/share/qemu"]
  private static let devices = ["/dev/null", "/dev/zero", "/dev/urandom"]

  private let namespace: MountNamespace
  private let directories: Set<String>

  /// Blocks.
  /// - Throws: `host_unavailable`.
  init(_ installation: QEMUInstallation, accelerator: Accelerator) throws(MartletError) {
    do {
      var plan = RootPlan()
      plan.addLinks(Self.rootLinks)
      let modules = Self.moduleDirectories.filter { access($0, F_OK) == 0 }
      let accelerators = modules.flatMap { directory in
        ((try? Directories.names(in: FilePath(directory))) ?? []).filter { $0.hasPrefix("accel-") }.map {
          "\(directory)/\($0)"
        }
      }
      plan.addFile(installation.executable)
      for program in [installation.executable] + accelerators {
        for library in try Self.libraries(of: program) { plan.addFile(library) }
      }
      if access(Self.loaderCache, F_OK) == 0 { plan.addFile(Self.loaderCache) }
      for directory in modules { plan.addDirectory(directory, .programs) }
      let firmware = [installation.firmware.removingLastComponent().string] + Self.firmwareDirectories
      for directory in Set(firmware).sorted() where access(directory, F_OK) == 0 { plan.addDirectory(directory, .data) }
      plan.addDevices(Self.devices + (accelerator == .kvm ? ["/dev/kvm"] : []))
      plan.addMountPoints(directories: ["/proc"], files: [Self.kernel, Self.initramfs])
      namespace = try MountNamespace.make(plan.steps)
      directories = plan.directories
    } catch {
      throw MartletError(
        .hostUnavailable, "the file system that VMMs run in could not be made; run martlet doctor", cause: error)
    }
  }

  /// What the loader would map for a program, itself included. Source: ld.so(8), `--list`.
  private static func libraries(of program: String) throws(ToolError) -> [String] {
    let output = try Tool.runBlocking(loader, ["--list", program]).checked()
    return [loader]
      + output.outputText.split(separator: "\n").compactMap { line in
        line.split(whereSeparator: \.isWhitespace).last { $0.hasPrefix("/") }.map(String.init)
      }
  }

  /// The root of one VMM, and what it has to be given.
  func mounts(for configuration: VMConfiguration) throws(SystemError) -> SpawnRequest.Mounts {
    var steps = [MountStep.processes("/proc")]
    if configuration.start == .boot {
      steps.append(.attach(try DetachedMount(configuration.kernel.string), at: Self.kernel, .data))
      steps.append(.attach(try DetachedMount(configuration.initramfs.string), at: Self.initramfs, .data))
    }
    steps += try VisibleFilePlan(configuration.visibleFiles, in: directories).steps
    return SpawnRequest.Mounts(
      namespace: namespace, steps: steps + [.protect("/", [.readOnly, .noSetUserID, .noDevices])])
  }
}

/// Where the files go that one VMM sees beside `VMMRoot`: into file systems in memory that are mounted where the root
/// has no directory of that name, so that no VMM learns the names of another's.
struct VisibleFilePlan {
  private(set) var steps: [MountStep] = []

  /// - Parameter directories: those of the root.
  init(_ files: [VisibleFile], in directories: Set<String>) throws(SystemError) {
    var made: Set<String> = []
    var places: [String] = []
    for file in files {
      let parents = FilePath(file.path.string).removingLastComponent().parentsFromTheRoot
      guard let place = parents.first(where: { !directories.contains($0) }) else {
        throw SystemError("mount", .fileExists, subject: file.path.string)
      }
      if made.insert(place).inserted {
        places.append(place)
        steps += [.directory(place), .memory(place)]
      }
      for parent in parents where parent.hasPrefix("\(place)/") && made.insert(parent).inserted {
        steps.append(.directory(parent))
      }
      let isDirectory = try FileStatus.of(file.source.string, followingLinks: true)?.kind == .directory
      steps.append(isDirectory ? .directory(file.path.string) : .file(file.path.string))
      let flags: MountFlags = file.isReadOnly ? .data : [.noSetUserID, .noDevices, .noExecution]
      steps.append(.attach(try DetachedMount(file.source.string), at: file.path.string, flags))
    }
    steps += places.map { .protect($0, .data) }
  }
}

/// Collects what a root consists of.
private struct RootPlan {
  private(set) var steps: [MountStep] = []
  private(set) var directories: Set<String> = ["/"]
  private var files: Set<String> = []

  mutating func addLinks(_ names: [String]) {
    for name in names {
      var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
      let count = readlink("/\(name)", &buffer, buffer.count)
      guard count > 0 else { continue }
      let target = String(decoding: buffer[0..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      // Relative, as the root is put together somewhere else.
      steps.append(.symbolicLink("/\(name)", to: String(target.drop { $0 == "/" })))
    }
  }

  /// A file under the name by which it is looked for; its directory may be reached over links.
  mutating func addFile(_ path: String) {
    let name = FilePath(path)
    guard let directory = realpath(name.removingLastComponent().string, nil) else { return }
    defer { free(directory) }
    let target = "\(String(cString: directory))/\(name.lastComponent?.string ?? "")"
    guard files.insert(target).inserted else { return }
    addParents(of: target)
    steps += [.file(target), .bind(path, at: target, .programs)]
  }

  mutating func addDirectory(_ path: String, _ flags: MountFlags) {
    guard let resolved = realpath(path, nil) else { return }
    defer { free(resolved) }
    let target = String(cString: resolved)
    addParents(of: target)
    guard directories.insert(target).inserted else { return }
    steps += [.directory(target), .bind(target, at: target, flags)]
  }

  mutating func addDevices(_ paths: [String]) {
    directories.insert("/dev")
    steps += [.directory("/dev"), .deviceDirectory("/dev")]
    for path in paths { steps.append(.device(path, at: path)) }
    steps.append(.protect("/dev", [.readOnly, .noSetUserID, .noExecution]))
  }

  mutating func addMountPoints(directories paths: [String], files: [String]) {
    for path in paths {
      directories.insert(path)
      steps.append(.directory(path))
    }
    steps += files.map { .file($0) }
  }

  private mutating func addParents(of path: String) {
    for parent in FilePath(path).removingLastComponent().parentsFromTheRoot where directories.insert(parent).inserted {
      steps.append(.directory(parent))
    }
  }
}

extension FilePath {
  /// This absolute directory and those above it, the highest first, without the root itself.
  fileprivate var parentsFromTheRoot: [String] {
    var path = ""
    return components.map { component in
      path += "/\(component.string)"
      return path
    }
  }
}
