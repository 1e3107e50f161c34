import Glibc
import LinuxSystem
import Snapshots
import SystemPackage

/// Obtains a VM's memory for a pager: a new VMM passes it over a socket, or it is taken from a running VMM.
struct MachineHandshake {
  /// Time within which the VMM must connect.
  static let connectSeconds: UInt64 = 60
  /// Time within which the VMM must send its message after connecting.
  static let messageSeconds: UInt64 = 10

  let machine: ProcessHandle
  let regions: MemoryRegions
  let faults: UserFaultDescriptor
  let connection: UnixSocket?

  /// Waits for the VMM to connect. When the pager refuses the VMM, it kills it.
  static func accept(
    on listener: UnixSocket, owner: UInt32, memoryBytes: Int64, connectSeconds: UInt64 = Self.connectSeconds
  ) throws(PagerError) -> MachineHandshake {
    guard try isReadable(listener, seconds: connectSeconds) else { throw .notConnected }
    let connection = try system { () throws(SystemError) in try listener.accept() }
    let peer = try system { () throws(SystemError) in try connection.peer() }
    guard peer.uid == 0 || peer.uid == owner else { throw .refused("its peer runs as another user") }
    let opened = try system { () throws(SystemError) in try ProcessHandle.openWithoutStartTime(pid: peer.pid) }
    guard let machine = opened else { throw .machineEnded }
    do {
      return try receive(from: connection, machine: machine, memoryBytes: memoryBytes)
    } catch {
      if case .unservable = error { machine.signal(SIGKILL) }
      throw error
    }
  }

  private static func receive(
    from connection: UnixSocket, machine: ProcessHandle, memoryBytes: Int64
  ) throws(PagerError) -> MachineHandshake {
    guard try isReadable(connection, seconds: messageSeconds) else { throw .refused("it did not come") }
    let message: UnixSocket.Message
    do {
      message = try connection.receive(maximumBytes: MemoryRegions.maximumBytes)
    } catch {
      throw error.errno == .connectionReset ? .machineEnded : .refused("\(error.errno)")
    }
    guard !message.bytes.isEmpty else { throw .machineEnded }
    guard let descriptor = message.descriptor else { throw .refused("it came without a descriptor") }
    let regions = try parse(message.bytes, memoryBytes: memoryBytes)
    guard let faults = try? UserFaultDescriptor(adopting: descriptor) else {
      throw .refused("its descriptor is of another kind")
    }
    return MachineHandshake(machine: machine, regions: regions, faults: faults, connection: connection)
  }

  /// Takes over the page faults of a VMM whose pager is gone.
  /// - Parameters:
  ///   - faults: a copy of the VMM's userfaultfd, which the agent took from it.
  ///   - regions: has what the VMM said to its first pager.
  static func takeOver(
    _ machine: ProcessHandle, faults: OwnedDescriptor, regions: RegionsFile, memoryBytes: Int64
  ) throws(PagerError) -> MachineHandshake {
    guard !machine.hasEnded else { throw .machineEnded }
    let (adopted, text) = try system { () throws(SystemError) in
      (try UserFaultDescriptor(adopting: faults), try regions.read())
    }
    return MachineHandshake(
      machine: machine, regions: try parse(text, memoryBytes: memoryBytes), faults: adopted, connection: nil)
  }

  /// Keeps the regions for a successor and for snapshots, unless the library that is preloaded into QEMU has done so.
  func storeRegions(in file: RegionsFile) throws(PagerError) {
    try Self.system { () throws(SystemError) in try file.store(regions) }
  }

  private static func parse(_ text: [UInt8], memoryBytes: Int64) throws(PagerError) -> MemoryRegions {
    do {
      return try MemoryRegions(parsing: text, memoryBytes: memoryBytes)
    } catch {
      throw .refused("its description is wrong (\(error))")
    }
  }

  private static func isReadable(_ socket: UnixSocket, seconds: UInt64) throws(PagerError) -> Bool {
    let end = MonotonicClock.nanoseconds + seconds * 1_000_000_000
    while true {
      let now = MonotonicClock.nanoseconds
      guard now < end else { return false }
      var polled = pollfd(fd: socket.descriptor.rawValue, events: Int16(POLLIN), revents: 0)
      let count = poll(&polled, 1, Int32((end - now) / 1_000_000) + 1)
      if count > 0 { return true }
      guard count == 0 || errno == EINTR else { throw .system(.current("poll")) }
    }
  }

  private static func system<Value>(_ body: () throws(SystemError) -> Value) throws(PagerError) -> Value {
    do {
      return try body()
    } catch {
      throw .system(error)
    }
  }
}
