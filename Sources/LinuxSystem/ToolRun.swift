import Glibc

/// One run of a program on a blocking thread: writes input, collects output, enforces the deadline.
final class ToolRun: Sendable {
  private let request: SpawnRequest
  private let input: String?
  private let deadline: Duration
  private let outputLimit: Int
  private let onLine: (@Sendable (String) -> Void)?
  private let cancellation: OwnedDescriptor

  init(
    path: String, arguments: [String], environment: [String: String], input: String?, directory: String?,
    deadline: Duration,
    outputLimit: Int, onLine: (@Sendable (String) -> Void)?
  ) throws(SystemError) {
    var request = SpawnRequest(
      executable: path, arguments: arguments, environment: environment, workingDirectory: directory)
    // As distributions start programs: the modes of files that a tool makes for a guest do not depend on ours.
    request.fileModeMask = 0o022
    self.request = request
    self.input = input
    self.deadline = deadline
    self.outputLimit = outputLimit
    self.onLine = onLine
    cancellation = try OwnedDescriptor.eventDescriptor()
  }

  func cancel() {
    var one: UInt64 = 1
    write(cancellation.rawValue, &one, 8)
  }

  func execute() -> Result<ToolOutput, ToolError.Reason> {
    do throws(SystemError) {
      let standardInput = try input.map { _ throws(SystemError) in try OwnedDescriptor.pipe() }
      let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
      let output = try OwnedDescriptor.pipe()
      let error = try OwnedDescriptor.pipe()
      var request = request
      request.descriptors = [
        0: (standardInput?.read ?? null).rawValue, 1: output.write.rawValue, 2: error.write.rawValue,
      ]
      let child: ChildProcess
      do {
        child = try ChildProcess.spawn(request)
      } catch {
        return .failure(.spawn(error))
      }
      standardInput?.read.close()
      output.write.close()
      error.write.close()
      return exchange(child, input: standardInput?.write, output: output.read, error: error.read)
    } catch {
      return .failure(.system(error))
    }
  }

  private func exchange(
    _ child: ChildProcess, input: OwnedDescriptor?, output: OwnedDescriptor, error: OwnedDescriptor
  ) -> Result<ToolOutput, ToolError.Reason> {
    let end = ContinuousClock.now + deadline
    var pending = Array((self.input ?? "").utf8)[...]
    if let input { _ = fcntl(input.rawValue, F_SETFL, O_NONBLOCK) }
    if pending.isEmpty { input?.close() }
    var collectors = [
      Collector(output, limit: outputLimit, onLine: onLine), Collector(error, limit: outputLimit, onLine: onLine),
    ]
    while collectors.contains(where: { !$0.isFinished }) {
      var polled = [
        pollfd(fd: cancellation.rawValue, events: Int16(POLLIN), revents: 0),
        pollfd(fd: pending.isEmpty ? -1 : (input?.rawValue ?? -1), events: Int16(POLLOUT), revents: 0),
        pollfd(fd: collectors[0].descriptorToPoll, events: Int16(POLLIN), revents: 0),
        pollfd(fd: collectors[1].descriptorToPoll, events: Int16(POLLIN), revents: 0),
      ]
      let ready = poll(&polled, nfds_t(polled.count), milliseconds(until: end))
      if polled[0].revents != 0 { return abandon(child, .canceled) }
      if ready == 0 && ContinuousClock.now >= end { return abandon(child, .deadlineExceeded) }
      if polled[1].revents != 0, let input { feed(&pending, to: input) }
      for index in collectors.indices where polled[index + 2].revents != 0 { collectors[index].collect() }
    }
    return finish(child, by: end, collectors)
  }

  /// Both streams have ended; waits for the program's end.
  private func finish(
    _ child: ChildProcess, by end: ContinuousClock.Instant, _ collectors: [Collector]
  ) -> Result<ToolOutput, ToolError.Reason> {
    while true {
      if let status = child.reapIfEnded() {
        return .success(
          ToolOutput(
            executable: request.executable, status: status, standardOutput: collectors[0].bytes,
            standardError: collectors[1].bytes))
      }
      var polled = [
        pollfd(fd: cancellation.rawValue, events: Int16(POLLIN), revents: 0),
        pollfd(fd: child.pidfd.rawValue, events: Int16(POLLIN), revents: 0),
      ]
      _ = poll(&polled, nfds_t(polled.count), milliseconds(until: end))
      if polled[0].revents != 0 { return abandon(child, .canceled) }
      if polled[1].revents == 0 && ContinuousClock.now >= end { return abandon(child, .deadlineExceeded) }
    }
  }

  private func feed(_ pending: inout ArraySlice<UInt8>, to input: OwnedDescriptor) {
    let count = pending.withUnsafeBytes { write(input.rawValue, $0.baseAddress, $0.count) }
    if count > 0 { pending = pending.dropFirst(count) }
    // A program that does not read its input is not an error.
    if count < 0 && errno != EAGAIN && errno != EINTR { pending = [] }
    if pending.isEmpty { input.close() }
  }

  private func abandon(_ child: ChildProcess, _ reason: ToolError.Reason) -> Result<ToolOutput, ToolError.Reason> {
    child.signal(SIGKILL)
    _ = child.reapBlocking()
    return .failure(reason)
  }

  private func milliseconds(until end: ContinuousClock.Instant) -> Int32 {
    let left = ContinuousClock.now.duration(to: end)
    guard left > .zero else { return 0 }
    return Int32(clamping: left.components.seconds * 1_000 + left.components.attoseconds / 1_000_000_000_000_000 + 1)
  }
}

/// Reads one stream to its end and keeps the first `limit` bytes.
private struct Collector {
  private let descriptor: OwnedDescriptor
  private let limit: Int
  private let onLine: (@Sendable (String) -> Void)?
  private var line: [UInt8] = []
  private(set) var bytes: [UInt8] = []
  private(set) var isFinished = false

  init(_ descriptor: OwnedDescriptor, limit: Int, onLine: (@Sendable (String) -> Void)?) {
    self.descriptor = descriptor
    self.limit = limit
    self.onLine = onLine
  }

  var descriptorToPoll: Int32 { isFinished ? -1 : descriptor.rawValue }

  mutating func collect() {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let count = read(descriptor.rawValue, &buffer, buffer.count)
    if count < 0 && errno == EINTR { return }
    guard count > 0 else {
      isFinished = true
      if !line.isEmpty { emit() }
      return
    }
    bytes.append(contentsOf: buffer[0..<min(count, max(0, limit - bytes.count))])
    guard onLine != nil else { return }
    for byte in buffer[0..<count] {
      if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") || line.count >= 4_096 {
        emit()
      } else {
        line.append(byte)
      }
    }
  }

  private mutating func emit() {
    if !line.isEmpty { onLine?(String(decoding: line, as: UTF8.self)) }
    line.removeAll(keepingCapacity: true)
  }
}
