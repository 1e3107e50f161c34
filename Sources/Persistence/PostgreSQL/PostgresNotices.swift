import CPostgres
import Logging

/// Writes the server's notices to the log; without a receiver libpq would write them to standard error.
final class PostgresNotices: Sendable {
  private let logger: Logger

  init(logger: Logger) {
    self.logger = logger
  }

  /// The receiver must live as long as the connection.
  func receive(from handle: OpaquePointer) {
    PQsetNoticeReceiver(
      handle,
      { context, result in
        guard let context, let result else { return }
        Unmanaged<PostgresNotices>.fromOpaque(context).takeUnretainedValue().log(result)
      }, Unmanaged.passUnretained(self).toOpaque())
  }

  private func log(_ result: OpaquePointer) {
    let isWarning = PostgresDiagnosis.severity.text(in: result) == "WARNING"
    logger.log(
      level: isWarning ? .warning : .debug, "remark of the database",
      metadata: [
        "sqlstate": "\(PostgresDiagnosis.state.text(in: result) ?? "")",
        "text": "\(PostgresDiagnosis.message.text(in: result) ?? "")",
      ])
  }
}
