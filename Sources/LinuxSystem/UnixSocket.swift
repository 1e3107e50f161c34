import CLinux
import Glibc
package import SystemPackage

/// A Unix stream socket that can transfer descriptors. Calls block; sockets are close-on-exec. Source: unix(7).
package struct UnixSocket: Sendable {
  /// The result of one read.
  package struct Message: Sendable {
    package let bytes: [UInt8]
    package let descriptor: OwnedDescriptor?
  }

  package struct Peer: Sendable, Equatable {
    package let pid: Int32
    package let uid: UInt32
  }

  package let descriptor: OwnedDescriptor

  package init(_ descriptor: OwnedDescriptor) {
    self.descriptor = descriptor
  }

  /// Listens on `name` in `directory`, replacing an existing socket; only `owner` and root may connect.
  package static func listen(_ name: String, in directory: FilePath, owner: UInt32) throws(SystemError) -> UnixSocket {
    let path = directory.appending(name).string
    guard unlink(path) == 0 || errno == ENOENT else { throw SystemError.current("unlink", subject: path) }
    // A socket address is limited to 107 bytes; a directory path is not. Hence the path through /proc/self/fd.
    let opened = try OwnedDescriptor.open(directory.string, O_RDONLY | O_DIRECTORY)
    let descriptor = clinux_unix_listen("/proc/self/fd/\(opened.rawValue)/\(name)", 4)
    guard descriptor >= 0 else { throw SystemError("bind", Errno(rawValue: -descriptor), subject: path) }
    let socket = UnixSocket(OwnedDescriptor(descriptor))
    try SystemError.check("chmod", path) { chmod(path, 0o600) }
    try SystemError.check("chown", path) { chown(path, owner, gid_t.max) }
    return socket
  }

  /// The path has at most 107 bytes.
  package static func connect(_ path: String) throws(SystemError) -> UnixSocket {
    let descriptor = clinux_unix_connect(path)
    guard descriptor >= 0 else { throw SystemError("connect", Errno(rawValue: -descriptor), subject: path) }
    return UnixSocket(OwnedDescriptor(descriptor))
  }

  package func accept() throws(SystemError) -> UnixSocket {
    let accepted = clinux_unix_accept(descriptor.rawValue)
    guard accepted >= 0 else { throw SystemError("accept4", Errno(rawValue: -accepted)) }
    return UnixSocket(OwnedDescriptor(accepted))
  }

  /// Process and user id of the peer.
  package func peer() throws(SystemError) -> Peer {
    var pid: pid_t = 0
    var uid: uid_t = 0
    let result = clinux_unix_peer(descriptor.rawValue, &pid, &uid)
    guard result >= 0 else { throw SystemError("SO_PEERCRED", Errno(rawValue: -result)) }
    return Peer(pid: pid, uid: uid)
  }

  /// Receives one message; its bytes are empty at the end of the stream.
  /// - Throws: `SystemError` with EPROTO when it carries more than one descriptor; all are closed then.
  package func receive(maximumBytes: Int) throws(SystemError) -> Message {
    var buffer = [UInt8](repeating: 0, count: maximumBytes)
    var received: Int32 = -1
    let count = clinux_unix_receive(descriptor.rawValue, &buffer, buffer.count, &received)
    guard count >= 0 else { throw SystemError("recvmsg", Errno(rawValue: Int32(-count))) }
    return Message(bytes: Array(buffer[0..<count]), descriptor: received >= 0 ? OwnedDescriptor(received) : nil)
  }

  /// Sends one message with at most four descriptors, which stay owned by the caller.
  package func send(_ bytes: [UInt8], descriptors: [Int32] = []) throws(SystemError) {
    let count = clinux_unix_send(descriptor.rawValue, bytes, bytes.count, descriptors, descriptors.count)
    guard count == bytes.count else {
      throw SystemError("sendmsg", count < 0 ? Errno(rawValue: Int32(-count)) : .ioError)
    }
  }
}
