import CLinux
import Glibc
package import SystemPackage

/// A program to start and the attributes of its process. Descriptors that are not mapped are closed in the child.
package struct SpawnRequest: Sendable {
  package struct Credentials: Sendable, Equatable {
    package var uid: UInt32
    package var gid: UInt32
    package var groups: [UInt32]

    package init(uid: UInt32, gid: UInt32, groups: [UInt32] = []) {
      self.uid = uid
      self.gid = gid
      self.groups = groups
    }
  }

  /// Absolute path of the program.
  package var executable: String
  /// Arguments without the program's name.
  package var arguments: [String]
  package var environment: [String: String]
  package var workingDirectory: String?
  /// Child descriptor number → number in this process. All others are closed, including 0, 1 and 2 unless they are
  /// mapped.
  package var descriptors: [Int32: Int32]
  package var createsSession = false
  /// Child descriptor number of a terminal that becomes the controlling one (needs `createsSession`).
  package var controllingTerminal: Int32?
  package var credentials: Credentials?
  /// Descriptor of a network namespace to enter.
  package var networkNamespace: OwnedDescriptor?
  /// Descriptors of `cgroup.procs` files to join, open for writing.
  package var cgroups: [OwnedDescriptor] = []
  /// Resource limits: (RLIMIT_*, soft, hard).
  package var limits: [(resource: Int32, soft: UInt64, hard: UInt64)] = []
  package var oomScoreAdjustment: Int?
  /// Neither the process nor its children can gain privileges by executing a program (prctl(2), PR_SET_NO_NEW_PRIVS).
  package var forbidsNewPrivileges = false
  package var fileModeMask: Int32?
  /// Process 1 of a pid namespace of its own, with its own System V objects and host name: it sees and signals no other
  /// process.
  package var isolatesProcesses = false
  /// A copy of a mount namespace, changed by steps, in place of the caller's.
  package var mounts: Mounts?
  /// Child descriptor number that gets a TAP of the network namespace.
  package var tap: (name: String, descriptor: Int32)?
  /// No capability in any set, the bounding set included, and no way to one (capabilities(7), secure bits).
  package var forbidsCapabilities = false

  /// What a child sees of the file system.
  package struct Mounts: Sendable {
    package var namespace: MountNamespace
    package var steps: [MountStep]

    package init(namespace: MountNamespace, steps: [MountStep]) {
      self.namespace = namespace
      self.steps = steps
    }
  }

  package init(
    executable: String, arguments: [String] = [], environment: [String: String] = [:], workingDirectory: String? = nil,
    descriptors: [Int32: Int32] = [:]
  ) {
    self.executable = executable
    self.arguments = arguments
    self.environment = environment
    self.workingDirectory = workingDirectory
    self.descriptors = descriptors
  }
}

/// The step at which a spawn failed: distinguishes a missing program from a missing directory.
package struct SpawnError: Error, Sendable, Equatable, CustomStringConvertible {
  package enum Step: Int32, Sendable {
    case fork = 1
    case cgroup, namespace, session, descriptors, terminal, limits, groups, gid, uid, workingDirectory, execute, tap,
      mount, capabilities
  }

  package let step: Step
  package let errno: Errno
  package let executable: String
  /// Path of the mount that failed.
  package var subject: String?

  package var description: String {
    "spawn \(executable), step \(step)\(subject.map { " \($0)" } ?? ""): \(errno)"
  }
}

package enum ExitStatus: Sendable, Equatable {
  case exited(Int32)
  case signaled(Int32)
}

/// A direct child of this process. The kernel keeps its pid reserved until `wait()` has reaped it.
package final class ChildProcess: Sendable {
  package let pid: Int32
  /// Readable when the process has ended.
  package let pidfd: OwnedDescriptor

  private init(pid: Int32, pidfd: OwnedDescriptor) {
    self.pid = pid
    self.pidfd = pidfd
  }

  package static func spawn(_ request: SpawnRequest) throws(SpawnError) -> ChildProcess {
    let pid = try spawnRaw(request)
    let descriptor = clinux_pidfd_open(pid)
    guard descriptor >= 0 else {
      let failure = Errno(rawValue: Glibc.errno)
      Glibc.kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
      throw SpawnError(step: .fork, errno: failure, executable: request.executable)
    }
    return ChildProcess(pid: pid, pidfd: OwnedDescriptor(descriptor))
  }

  /// Sends a signal; false when the process has ended and was reaped.
  @discardableResult
  package func signal(_ number: Int32) -> Bool {
    clinux_pidfd_send_signal(pidfd.rawValue, number) == 0
  }

  /// Waits for the end and reaps the process. Must be called only once; cancellation does not shorten the wait.
  package func wait() async -> ExitStatus {
    while true {
      if let status = reapIfEnded() { return status }
      // The watcher returns at once in a cancelled task, so the wait continues on a thread.
      if Task.isCancelled {
        return await BlockingPool.shared.run { self.reapBlocking() }
      }
      await DescriptorWatcher.shared.waitUntilReadable(pidfd.rawValue)
    }
  }

  /// Reaps the process and returns its exit status if it has ended; nil while it runs.
  package func reapIfEnded() -> ExitStatus? { reap(blocks: false) }

  package func reapBlocking() -> ExitStatus { reap(blocks: true) ?? .exited(0) }

  private func reap(blocks: Bool) -> ExitStatus? {
    var code: Int32 = 0
    var status: Int32 = 0
    switch clinux_pidfd_wait(pidfd.rawValue, blocks ? 1 : 0, &code, &status) {
    case 0: return nil
    case 1: return code == CLD_EXITED ? .exited(status) : .signaled(status)
    default: return .exited(0)  // ECHILD: other code reaped it, and the status is lost.
    }
  }
}

private let processNamespaces = clinux_clone_newpid | clinux_clone_newipc | clinux_clone_newuts

extension ChildProcess {
  /// Spawns a process and returns only its pid. For programs that reap all children, such as PID 1.
  package static func spawnRaw(_ request: SpawnRequest) throws(SpawnError) -> Int32 {
    let argv = CStringArray([request.executable] + request.arguments)
    let envp = CStringArray(request.environment.map { "\($0.key)=\($0.value)" })
    let mappings = request.descriptors.sorted { $0.key < $1.key }
    let targets = mappings.map(\.key)
    let sources = mappings.map(\.value)
    let groups = request.credentials?.groups ?? []
    let cgroups = request.cgroups.map(\.rawValue)
    let limits = request.limits.map { clinux_spawn_limit(resource: $0.resource, soft: $0.soft, hard: $0.hard) }
    let directory = request.workingDirectory.map { strdup($0) } ?? nil
    let adjustment = request.oomScoreAdjustment.map { strdup("\($0)") } ?? nil
    let path = strdup(request.executable)
    let tap = request.tap.map { strdup($0.name) } ?? nil
    let mounts = RawMountSteps(request.mounts?.steps ?? [])
    defer {
      free(tap)
      free(directory)
      free(adjustment)
      free(path)
    }
    var failure = clinux_spawn_failure()
    let pid = sources.withUnsafeBufferPointer { sources in
      targets.withUnsafeBufferPointer { targets in
        groups.withUnsafeBufferPointer { groups in
          cgroups.withUnsafeBufferPointer { cgroups in
            limits.withUnsafeBufferPointer { limits in
              var raw = clinux_spawn_request()
              raw.path = UnsafePointer(path)
              raw.argv = UnsafePointer(argv.pointer)
              raw.envp = UnsafePointer(envp.pointer)
              raw.directory = UnsafePointer(directory)
              raw.sources = sources.baseAddress
              raw.targets = targets.baseAddress
              raw.descriptor_count = sources.count
              raw.new_session = request.createsSession ? 1 : 0
              raw.controlling_terminal = request.controllingTerminal ?? -1
              raw.set_credentials = request.credentials == nil ? 0 : 1
              raw.uid = request.credentials?.uid ?? 0
              raw.gid = request.credentials?.gid ?? 0
              raw.groups = groups.baseAddress
              raw.group_count = groups.count
              raw.network_namespace = request.networkNamespace?.rawValue ?? -1
              raw.cgroup_procs = cgroups.baseAddress
              raw.cgroup_count = cgroups.count
              raw.limits = limits.baseAddress
              raw.limit_count = limits.count
              raw.no_new_privileges = request.forbidsNewPrivileges ? 1 : 0
              raw.oom_score_adj = UnsafePointer(adjustment)
              raw.file_mode_mask = request.fileModeMask ?? -1
              raw.namespaces = request.isolatesProcesses ? processNamespaces : 0
              raw.mount_namespace = request.mounts?.namespace.descriptor.rawValue ?? -1
              raw.tap_name = UnsafePointer(tap)
              raw.tap_target = request.tap?.descriptor ?? -1
              raw.no_capabilities = request.forbidsCapabilities ? 1 : 0
              return mounts.withUnsafeBuffer { steps in
                raw.mount_steps = steps.baseAddress
                raw.mount_step_count = steps.count
                return clinux_spawn(&raw, &failure)
              }
            }
          }
        }
      }
    }
    withExtendedLifetime((argv, envp, request)) {}
    guard pid > 0 else {
      throw SpawnError(
        step: SpawnError.Step(rawValue: failure.step) ?? .fork, errno: Errno(rawValue: failure.error),
        executable: request.executable)
    }
    return pid
  }
}

/// A NULL-terminated array of C strings that lives as long as the value.
final class CStringArray {
  let pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  private let count: Int

  init(_ strings: [String]) {
    count = strings.count
    pointer = .allocate(capacity: strings.count + 1)
    for (index, string) in strings.enumerated() { pointer[index] = strdup(string) }
    pointer[strings.count] = nil
  }

  deinit {
    for index in 0..<count { free(pointer[index]) }
    pointer.deallocate()
  }
}
