import Connect
import ConnectServer
import Glibc
import HTTPTypes
import Hummingbird
import LinuxSystem
import SystemPackage

/// An error of a file request with a message for the client; used by `/files` and the Filesystem service.
struct FileFailure: Error, Sendable, Equatable {
  enum Reason: Sendable, CaseIterable {
    case invalidArgument
    case unauthenticated
    case permissionDenied
    case notFound
    case alreadyExists
    case failedPrecondition
    case notAcceptable
    case insufficientStorage
    case resourceExhausted
    case dataLoss
    case canceled
    case internalError
  }

  let reason: Reason
  let message: String

  init(_ reason: Reason, _ message: String) {
    self.reason = reason
    self.message = message
  }
}

extension FileFailure.Reason {
  /// HTTP status of `/files` responses. Source: E2B's envd contract
  var httpStatus: HTTPResponse.Status {
    switch self {
    case .invalidArgument, .failedPrecondition: .badRequest
    case .unauthenticated: .unauthorized
    case .permissionDenied: .forbidden
    case .notFound: .notFound
    case .alreadyExists: .conflict
    case .notAcceptable: .notAcceptable
    case .insufficientStorage: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
    case .resourceExhausted: .tooManyRequests
    case .canceled: HTTPResponse.Status(code: 499, reasonPhrase: "Client Closed Request")
    case .dataLoss, .internalError: .internalServerError
    }
  }

  /// Code of Filesystem service responses.
  var connectCode: ConnectCode {
    switch self {
    case .invalidArgument, .notAcceptable: .invalidArgument
    case .unauthenticated: .unauthenticated
    case .permissionDenied: .permissionDenied
    case .notFound: .notFound
    case .alreadyExists: .alreadyExists
    case .failedPrecondition: .failedPrecondition
    case .insufficientStorage, .resourceExhausted: .resourceExhausted
    case .dataLoss: .dataLoss
    case .canceled: .canceled
    case .internalError: .internalError
    }
  }
}

extension FileFailure {
  static func notFound(_ path: String) -> FileFailure {
    FileFailure(.notFound, "path '\(path)' does not exist")
  }

  /// Maps a failed system call on `path`.
  init(_ error: SystemError, path: String) {
    switch error.errno.rawValue {
    case ENOENT: self = .notFound(path)
    case ENOTDIR: self.init(.invalidArgument, "path '\(path)': a component of the path is a file, not a directory")
    case EISDIR: self.init(.invalidArgument, "path '\(path)' is a directory")
    case ENAMETOOLONG:
      self.init(.invalidArgument, "path '\(path.prefix(64))…' is too long or has a component longer than 255 bytes")
    case EINVAL: self.init(.invalidArgument, "path '\(path)' is not valid for this operation")
    case EEXIST: self.init(.alreadyExists, "path '\(path)' already exists")
    case ENOSPC, EDQUOT: self.init(.insufficientStorage, "not enough disk space or inodes available for '\(path)'")
    case EMFILE, ENFILE, ENOMEM: self.init(.resourceExhausted, "the guest has too many open files or too little memory")
    case EACCES, EPERM: self.init(.permissionDenied, "access to path '\(path)' is denied")
    case ELOOP: self.init(.failedPrecondition, "path '\(path)' has too many levels of symbolic links")
    case ENOTEMPTY: self.init(.failedPrecondition, "directory '\(path)' is not empty")
    case EBUSY, ETXTBSY: self.init(.failedPrecondition, "path '\(path)' is in use")
    case EROFS: self.init(.failedPrecondition, "path '\(path)' is on a read-only file system")
    case EXDEV: self.init(.failedPrecondition, "path '\(path)' is on another file system; copy and remove it instead")
    case EFBIG: self.init(.insufficientStorage, "path '\(path)' would become larger than the file system allows")
    default: self.init(.internalError, "path '\(path)': \(error.call) failed: \(error.errno)")
    }
  }

  /// Maps any error to one for the client.
  static func describing(_ error: any Error) -> FileFailure {
    switch error {
    case let error as FileFailure: error
    case let error as SystemError: FileFailure(error, path: error.subject ?? "")
    case let error as UserLookupError:
      if case .unknownUser = error {
        FileFailure(.unauthenticated, error.description)
      } else {
        FileFailure(.internalError, error.description)
      }
    case is CancellationError: FileFailure(.canceled, "the request was canceled")
    default: FileFailure(.internalError, "the file request failed inside the guest agent")
    }
  }

  var connectError: ConnectError { ConnectError(reason.connectCode, message) }
}
