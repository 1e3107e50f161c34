import Concurrency
import Glibc
import LinuxSystem
import NIOCore

/// A process that was started for a client, from its start to its end, with its subscribers.
///
/// `ProcessLifecycle` decides when the process is over and `OutputBroadcast` which subscriber gets which update; this
/// class does the I/O. All state is guarded by one lock; continuations are resumed outside of it.
package final class ManagedProcess: Sendable {
  typealias Waiter = CheckedContinuation<ProcessUpdate?, any Error>

  /// The start parameters, as `List` reports them.
  package struct Description: Sendable, Equatable {
    package var command: String
    package var arguments: [String] = []
    package var environment: [String: String] = [:]
    package var workingDirectory: String?
    package var tag: String?
  }

  struct Output {
    let registration: DescriptorPoller.Registration
    var isOpen = true
    /// Not read until the subscribers have caught up.
    var isPaused = false
  }

  struct State {
    var pid: Int32 = 0
    var lifecycle: ProcessLifecycle
    var broadcast = OutputBroadcast<Waiter>()
    var outputs: [OutputChannel: Output] = [:]
    var input: InputWriter?
    var exitWatch: DescriptorPoller.Registration?
    var timeoutTimer: Scheduled<Void>?
    var stallTimer: Scheduled<Void>?
    var onEnd: (@Sendable (ManagedProcess) -> Void)?
    /// The second update of a subscriber that comes after the end.
    var publishedEnd: ProcessEnd?
  }

  /// The agent's ends of the pipes or of the terminal, all non-blocking.
  struct Endpoints: Sendable {
    var outputs: [OutputChannel: OwnedDescriptor]
    var input: OwnedDescriptor?
  }

  package let description: Description
  package let hasTerminal: Bool
  let startedAt = NIODeadline.now()
  let reaper: ChildReaper
  let eventLoop: any EventLoop
  let state: Mutex<State>

  /// Registers the descriptors of a process that is about to be spawned, so that subscribers are there before any
  /// output.
  init(
    description: Description, endpoints: Endpoints, reaper: ChildReaper, poller: DescriptorPoller,
    eventLoop: any EventLoop
  ) throws(SystemError) {
    self.description = description
    self.hasTerminal = endpoints.outputs[.terminal] != nil
    self.reaper = reaper
    self.eventLoop = eventLoop
    self.state = Mutex(State(lifecycle: ProcessLifecycle(outputs: endpoints.outputs.count)))
    do {
      for (channel, descriptor) in endpoints.outputs {
        let registration = try poller.add(descriptor, .readable) { [weak self] scratch in
          self?.becameReadable(channel, scratch)
        }
        state.withLock { $0.outputs[channel] = Output(registration: registration) }
      }
      let input = try endpoints.input.map { (input) throws(SystemError) in try InputWriter(input, poller: poller) }
      state.withLock { $0.input = input }
    } catch {
      releaseDescriptors()
      throw error
    }
  }

  package var pid: UInt32 { state.withLock { UInt32(bitPattern: $0.pid) } }
  package var isOver: Bool { state.withLock { $0.publishedEnd != nil } }
  package var subscriberCount: Int { state.withLock { $0.broadcast.subscriberCount } }
  /// Standard input or terminal; nil if the process has no input.
  package var input: InputWriter? { state.withLock { $0.input } }

  /// Starts to read the outputs of the spawned process and to watch for its end.
  /// - Parameters:
  ///   - timeout: when to kill its process group.
  ///   - onEnd: called once, when the process is over.
  func begin(
    _ child: ChildProcess, poller: DescriptorPoller, timeout: NIODeadline?,
    onEnd: @escaping @Sendable (ManagedProcess) -> Void
  ) throws(SystemError) {
    let watch = try poller.add(child.pidfd, .readable) { [reaper, pid = child.pid] _ in reaper.reap(pid) }
    let (wakeups, outputs) = state.withLock { state in
      state.pid = child.pid
      state.exitWatch = watch
      state.onEnd = onEnd
      let wakeups = state.broadcast.publish(.started(pid: UInt32(bitPattern: child.pid)), now: .now())
      return (wakeups, Array(state.outputs.values))
    }
    Self.resume(wakeups)
    for output in outputs { output.registration.arm() }
    watch.arm()
    if let timeout { startTimer(timeout) }
  }

  /// Releases the descriptors of a process that could not be spawned.
  func abandon() {
    releaseDescriptors()
  }

  private func startTimer(_ deadline: NIODeadline) {
    let timer = eventLoop.scheduleTask(deadline: deadline) { [weak self] () -> Void in self?.timeOut() }
    let isOver = state.withLock { state in
      state.timeoutTimer = timer
      return state.publishedEnd != nil
    }
    if isOver { timer.cancel() }
  }

  /// Called by the reaper with the exit status, possibly before `begin` has returned.
  func exited(_ status: ExitStatus) {
    let (ends, isStopRequested) = state.withLock { ($0.lifecycle.exited(status), $0.lifecycle.isStopRequested) }
    guard ends else { return }
    if isStopRequested { readRemainingOutput() }
    finish()
  }

  /// Publishes the end and releases the descriptors. Called once, by the event that ended the process.
  func finish() {
    let (wakeups, onEnd) = state.withLock { state in
      guard let end = state.lifecycle.end else {
        return ([OutputBroadcast<Waiter>.Wakeup](), nil as (@Sendable (ManagedProcess) -> Void)?)
      }
      state.publishedEnd = end
      state.timeoutTimer?.cancel()
      state.stallTimer?.cancel()
      return (state.broadcast.finish(with: .ended(end), now: .now()), state.onEnd)
    }
    releaseDescriptors()
    onEnd?(self)
    Self.resume(wakeups)
  }

  private func releaseDescriptors() {
    let (outputs, input, watch) = state.withLock { state in
      defer {
        state.outputs = [:]
        state.input = nil
        state.exitWatch = nil
      }
      return (state.outputs, state.input, state.exitWatch)
    }
    for output in outputs.values {
      output.registration.cancel()
      output.registration.descriptor.close()
    }
    watch?.cancel()
    input?.abort()
  }
}

extension ManagedProcess {
  /// Signals the process or its group. After SIGKILL or SIGTERM the process is over without waiting for its outputs.
  /// - Returns: false when there is no process left to signal.
  package func signal(_ number: Int32, group: Bool) -> Bool {
    let pid = state.withLock { $0.publishedEnd == nil ? $0.pid : 0 }
    guard pid > 0 else { return false }
    // Recorded before the signal is sent, because the exit may arrive before this call continues.
    let isStop = number == SIGKILL || number == SIGTERM
    let ends = isStop && state.withLock { $0.lifecycle.stopRequested() }
    defer { if ends { finish() } }
    if reaper.signal(pid, number, group: group) { return true }
    // The leader has been reaped, but other processes of its group hold the outputs. The kernel does not reuse the
    // number of a group that has members.
    if group && kill(-pid, number) == 0 { return true }
    return ends
  }

  /// Kills the process group because the time-out has passed.
  package func timeOut() {
    let (pid, ends) = state.withLock { state in
      (state.publishedEnd == nil ? state.pid : 0, state.lifecycle.stopRequested(isTimeout: true))
    }
    guard pid > 0 else { return }
    if !reaper.signal(pid, SIGKILL, group: true) { kill(-pid, SIGKILL) }
    if ends { finish() }
  }

  /// Sets the terminal's size. 0 stands for the default, since programs fail on a terminal of size 0.
  /// - Throws: `noTerminal`, or `failed` with the ioctl's error.
  package func resize(_ size: WindowSize) throws(ProcessServiceError) {
    let descriptor = state.withLock { $0.outputs[.terminal]?.registration.descriptor }
    guard hasTerminal else { throw .noTerminal }
    guard let descriptor else { throw .over }
    do {
      try size.apply(to: descriptor)
    } catch {
      throw .failed(error)
    }
  }
}
