import CLinux
import Glibc
package import LinuxSystem
package import NIOCore
import SystemPackage

/// Starts the process of a launch plan.
package final class ProcessLauncher: Sendable {
  /// Restrictions of every user process, in addition to its plan.
  package struct Confinement: Sendable {
    /// `cgroup.procs` of the group for user processes, open for writing.
    package var cgroups: [OwnedDescriptor]
    /// Undoes the agent's exemption from the out-of-memory killer.
    package var oomScoreAdjustment: Int?

    package init(cgroups: [OwnedDescriptor] = [], oomScoreAdjustment: Int? = nil) {
      self.cgroups = cgroups
      self.oomScoreAdjustment = oomScoreAdjustment
    }
  }

  /// The group that owns terminals and may write to them. Source: Debian policy, /etc/group (tty 5); pts(4).
  private static let terminalGroup: UInt32 = 5
  /// umask(2) of user processes: files 0644, directories 0755.
  private static let fileModeMask: Int32 = 0o022

  package let poller: DescriptorPoller
  package let reaper: ChildReaper
  private let eventLoop: any EventLoop
  private let confinement: Confinement

  package init(poller: DescriptorPoller, reaper: ChildReaper, eventLoop: any EventLoop, confinement: Confinement) {
    self.poller = poller
    self.reaper = reaper
    self.eventLoop = eventLoop
    self.confinement = confinement
  }

  /// The agent's ends of pipes or terminal and the child's ends, which are closed once the child has started.
  private struct Plumbing {
    var endpoints: ManagedProcess.Endpoints
    /// Descriptor number in the child → its descriptor.
    var childEnds: [Int32: OwnedDescriptor]
  }

  /// Starts the process with one subscriber, which gets all output. Blocks until the program executes.
  package func launch(
    _ plan: LaunchPlan, keepAlive: TimeAmount, timeout: NIODeadline?,
    onEnd: @escaping @Sendable (ManagedProcess) -> Void
  ) throws(ProcessServiceError) -> ProcessSubscription {
    do {
      let plumbing =
        try plan.terminal.map { (size) throws(SystemError) in try terminal(size, owner: plan.credentials) }
        ?? pipes(plan)
      let process = try ManagedProcess(
        description: plan.description, endpoints: plumbing.endpoints, reaper: reaper, poller: poller,
        eventLoop: eventLoop)
      do {
        let subscription = try process.subscribe(keepAlive: keepAlive)
        let child = try spawn(plan, plumbing, process)
        try begin(process, child, timeout: timeout, onEnd: onEnd)
        return subscription
      } catch {
        process.abandon()
        throw error
      }
    } catch let error as ProcessServiceError {
      throw error
    } catch let error as SystemError {
      throw .failed(error)
    } catch {
      throw .failed(SystemError("spawn", .invalidArgument))
    }
  }

  private func begin(
    _ process: ManagedProcess, _ child: ChildProcess, timeout: NIODeadline?,
    onEnd: @escaping @Sendable (ManagedProcess) -> Void
  ) throws(ProcessServiceError) {
    do {
      try process.begin(child, poller: poller, timeout: timeout, onEnd: onEnd)
    } catch {
      // The agent would not notice its end, so the process is killed.
      while reaper.signal(child.pid, SIGKILL, group: true) {
        usleep(1_000)
        reaper.reap(child.pid)
      }
      throw .failed(error)
    }
  }

  private func spawn(
    _ plan: LaunchPlan, _ plumbing: Plumbing, _ process: ManagedProcess
  ) throws(ProcessServiceError) -> ChildProcess {
    var request = SpawnRequest(
      executable: plan.executable, arguments: plan.arguments, environment: plan.environment,
      workingDirectory: plan.workingDirectory,
      descriptors: plumbing.childEnds.mapValues(\.rawValue))
    request.createsSession = true
    request.controllingTerminal = plan.terminal == nil ? nil : 0
    request.credentials = plan.credentials
    request.cgroups = confinement.cgroups
    request.oomScoreAdjustment = confinement.oomScoreAdjustment
    request.fileModeMask = Self.fileModeMask
    do {
      let child = try reaper.spawn(request) { [weak process] status in process?.exited(status) }
      withExtendedLifetime(plumbing) {}
      return child
    } catch {
      throw ProcessServiceError(error, plan: plan)
    }
  }

  private func pipes(_ plan: LaunchPlan) throws(SystemError) -> Plumbing {
    let output = try OwnedDescriptor.pipe()
    let error = try OwnedDescriptor.pipe()
    try Self.makeNonBlocking(output.read)
    try Self.makeNonBlocking(error.read)
    var plumbing = Plumbing(
      endpoints: .init(outputs: [.standardOutput: output.read, .standardError: error.read], input: nil),
      childEnds: [1: output.write, 2: error.write])
    switch plan.standardInput {
    case .pipe:
      let input = try OwnedDescriptor.pipe()
      try Self.makeNonBlocking(input.write)
      plumbing.childEnds[0] = input.read
      plumbing.endpoints.input = input.write
    case .nothing:
      plumbing.childEnds[0] = try OwnedDescriptor.open("/dev/null", O_RDONLY)
    }
    return plumbing
  }

  private func terminal(_ size: WindowSize, owner: SpawnRequest.Credentials) throws(SystemError) -> Plumbing {
    var controller: Int32 = -1
    var terminal: Int32 = -1
    let result = martlet_guest_open_terminal(&controller, &terminal)
    guard result == 0 else { throw SystemError("open", Errno(rawValue: -result), subject: "/dev/ptmx") }
    let controllerEnd = OwnedDescriptor(controller)
    let terminalEnd = OwnedDescriptor(terminal)
    try size.apply(to: controllerEnd)
    // Best effort: in a container without the right, the process still uses the terminal through the inherited
    // descriptor.
    fchown(terminalEnd.rawValue, owner.uid, Self.terminalGroup)
    fchmod(terminalEnd.rawValue, 0o620)
    let input = try OwnedDescriptor.duplicate(controllerEnd)
    return Plumbing(
      endpoints: .init(outputs: [.terminal: controllerEnd], input: input),
      childEnds: [0: terminalEnd, 1: terminalEnd, 2: terminalEnd])
  }

  private static func makeNonBlocking(_ descriptor: OwnedDescriptor) throws(SystemError) {
    try SystemError.check("fcntl") { fcntl(descriptor.rawValue, F_SETFL, O_NONBLOCK) }
  }
}

extension OwnedDescriptor {
  fileprivate static func duplicate(_ descriptor: OwnedDescriptor) throws(SystemError) -> OwnedDescriptor {
    OwnedDescriptor(try SystemError.check("fcntl") { fcntl(descriptor.rawValue, F_DUPFD_CLOEXEC, 3) })
  }
}

extension ProcessServiceError {
  /// Maps a failed spawn to the error for the client.
  init(_ error: SpawnError, plan: LaunchPlan) {
    let command = plan.description.command
    switch (error.step, error.errno) {
    case (.workingDirectory, .noSuchFileOrDirectory): self = .workingDirectoryMissing(plan.workingDirectory)
    case (.workingDirectory, _): self = .permissionDenied("cwd '\(plan.workingDirectory)': \(error.errno)")
    case (.execute, .noSuchFileOrDirectory): self = .commandNotFound(command)
    case (.execute, .argListTooLong): self = .argumentsTooLong
    case (.execute, .permissionDenied): self = .permissionDenied("the user may not execute '\(command)'")
    case (.execute, .execFormatError): self = .commandNotExecutable(command)
    case (.fork, .resourceTemporarilyUnavailable), (.fork, .noMemory): self = .tooManyProcesses
    default: self = .failed(SystemError("spawn", error.errno, subject: "\(error.step)"))
    }
  }
}
