import Concurrency
import FoundationEssentials
import Glibc
import LinuxSystem
import NIOCore

extension ManagedProcess {
  /// Bytes that are read at most from each output after the process was killed: more than the default capacity of a
  /// pipe.
  private static var finalReadLimitBytes: Int { 128 * 1024 }
  /// Chunks that one output may deliver before other descriptors get their turn.
  private static var chunksPerTurn: Int { 4 }

  private enum Chunk {
    case bytes(Data)
    case nothing
    case closed
  }

  /// Called on the poller's thread.
  func becameReadable(_ channel: OutputChannel, _ scratch: UnsafeMutableRawBufferPointer) {
    guard let registration = openOutput(channel) else { return }
    for _ in 0..<Self.chunksPerTurn {
      switch Self.read(registration.descriptor, into: scratch) {
      case .bytes(let data):
        guard publish(data, from: channel) else { return }
        // After a short read the output is empty; another read would be a wasted system call.
        if data.count < scratch.count { return registration.arm() }
      case .nothing: return registration.arm()
      case .closed: return outputClosed(channel)
      }
    }
    registration.arm()
  }

  /// Reads and publishes what a killed process has left in its outputs, without waiting for end of file.
  func readRemainingOutput() {
    let channels = state.withLock { $0.outputs.filter(\.value.isOpen).keys }
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: DescriptorPoller.scratchBytes, alignment: 16)
    defer { scratch.deallocate() }
    for channel in channels {
      guard let registration = openOutput(channel) else { continue }
      var total = 0
      while total < Self.finalReadLimitBytes, case .bytes(let data) = Self.read(registration.descriptor, into: scratch)
      {
        _ = publish(data, from: channel)
        total += data.count
      }
    }
  }

  /// Resumes reading from paused outputs. Called when subscribers have taken updates.
  func resumeOutputs() {
    let paused = state.withLock { state -> [DescriptorPoller.Registration] in
      guard !state.broadcast.isBlocked else { return [] }
      state.stallTimer?.cancel()
      state.stallTimer = nil
      let channels = state.outputs.filter { $0.value.isPaused && $0.value.isOpen }.keys
      for channel in channels { state.outputs[channel]?.isPaused = false }
      return channels.compactMap { state.outputs[$0]?.registration }
    }
    for registration in paused { registration.arm() }
  }

  private func openOutput(_ channel: OutputChannel) -> DescriptorPoller.Registration? {
    state.withLock { state in
      guard let output = state.outputs[channel], output.isOpen else { return nil }
      return output.registration
    }
  }

  /// - Returns: whether more may be read. If not, the output is paused until its subscribers have caught up.
  private func publish(_ data: Data, from channel: OutputChannel) -> Bool {
    let (wakeups, isBlocked) = state.withLock { state in
      let wakeups = state.broadcast.publish(.output(channel, data), now: .now())
      let isBlocked = state.broadcast.isBlocked
      if isBlocked { state.outputs[channel]?.isPaused = true }
      return (wakeups, isBlocked)
    }
    Self.resume(wakeups)
    if isBlocked { watchForStall() }
    return !isBlocked
  }

  private func outputClosed(_ channel: OutputChannel) {
    let (registration, ends) = state.withLock { state -> (DescriptorPoller.Registration?, Bool) in
      guard let output = state.outputs[channel], output.isOpen else { return (nil, false) }
      state.outputs[channel]?.isOpen = false
      return (output.registration, state.lifecycle.outputClosed())
    }
    registration?.cancel()
    registration?.descriptor.close()
    if ends { finish() }
  }

  /// While outputs are paused, drops subscribers that block the others for too long.
  private func watchForStall() {
    let interval = OutputBroadcast<Waiter>.stallLimit
    state.withLock { state in
      guard state.stallTimer == nil, state.publishedEnd == nil else { return }
      state.stallTimer = eventLoop.scheduleTask(in: interval) { [weak self] () -> Void in self?.checkForStall() }
    }
  }

  private func checkForStall() {
    let isBlocked = state.withLock { state in
      state.stallTimer = nil
      state.broadcast.dropStalled(now: .now())
      return state.broadcast.isBlocked
    }
    if isBlocked { watchForStall() } else { resumeOutputs() }
  }

  private static func read(_ descriptor: OwnedDescriptor, into scratch: UnsafeMutableRawBufferPointer) -> Chunk {
    while true {
      let count = Glibc.read(descriptor.rawValue, scratch.baseAddress, scratch.count)
      if count > 0 { return .bytes(Data(scratch.prefix(count))) }
      if count == 0 { return .closed }
      if errno == EINTR { continue }
      // The controller of a terminal without users returns EIO instead of end of file.
      return errno == EAGAIN ? .nothing : .closed
    }
  }
}
