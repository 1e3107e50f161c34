import Glibc
import LinuxSystem
import SystemPackage

/// A Python program that runs until its standard input is closed.
final class Daemon: Sendable {
  private let process: ChildProcess
  private let input: OwnedDescriptor

  private init(process: ChildProcess, input: OwnedDescriptor) {
    self.process = process
    self.input = input
  }

  /// Returns when the program has printed `ready`, or throws after ten seconds.
  static func start(_ script: String, _ arguments: [String], namespacePath: String?) async throws -> Daemon {
    let (input, output) = (try OwnedDescriptor.pipe(), try OwnedDescriptor.pipe())
    var request = SpawnRequest(
      executable: "/usr/bin/python3", arguments: ["-c", script] + arguments,
      environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"],
      descriptors: [0: input.read.rawValue, 1: output.write.rawValue, 2: 2])
    request.networkNamespace = try namespacePath.map { try NetworkNamespace.open(path: $0) }
    let daemon = Daemon(process: try ChildProcess.spawn(request), input: input.write)
    output.write.close()
    let isReady = await BlockingPool.shared.run { () throws(Never) -> Bool in
      var polled = pollfd(fd: output.read.rawValue, events: Int16(POLLIN), revents: 0)
      var buffer = [UInt8](repeating: 0, count: 16)
      return poll(&polled, 1, 10_000) == 1 && read(output.read.rawValue, &buffer, buffer.count) > 0
    }
    guard isReady else {
      await daemon.stop()
      throw SystemError("python3", .timedOut)
    }
    return daemon
  }

  func stop() async {
    input.close()
    process.signal(SIGKILL)
    _ = await process.wait()
  }
}

actor DaemonList {
  private var daemons: [Daemon] = []

  func add(_ daemon: Daemon) {
    daemons.append(daemon)
  }

  func stop() async {
    for daemon in daemons.reversed() { await daemon.stop() }
    daemons = []
  }
}
