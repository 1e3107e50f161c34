import Connect
import ConnectServer
import NIOCore
import Testing

@Suite("Connect errors")
struct ConnectErrorTests {
  @Test("every code survives in the body of a unary response", arguments: ConnectCode.allCases)
  func unaryBody(code: ConnectCode) {
    let error = ConnectError(code, "say \"no\" \u{1}\n")
    #expect(ConnectError(body: error.encoded(), httpStatus: code.httpStatus) == error)
  }

  @Test("every code survives in the end-of-stream frame", arguments: ConnectCode.allCases)
  func endOfStream(code: ConnectCode) throws {
    let error = ConnectError(code, "é")
    #expect(try ConnectError.decodeEndOfStream(ConnectError.encodeEndOfStream(error)) == error)
  }

  @Test("the end of a successful stream is an empty object")
  func success() throws {
    #expect(ConnectError.encodeEndOfStream(nil) == ByteBuffer(string: "{}"))
    #expect(try ConnectError.decodeEndOfStream(ByteBuffer(string: "{}")) == nil)
    #expect(try ConnectError.decodeEndOfStream(ByteBuffer(string: #"{"metadata":{"a":["b"]}}"#)) == nil)
  }

  @Test(
    "a malformed end of a stream is an error, not a success",
    arguments: ["", "null", "[]", "{", #"{"error":{}}"#, #"{"error":{"code":"odd"}}"#])
  func malformedEnd(text: String) {
    #expect(throws: ConnectError.self) { try ConnectError.decodeEndOfStream(ByteBuffer(string: text)) }
  }

  @Test(
    "bodies that are not Connect errors get the code of their HTTP status",
    arguments: [
      (400, ConnectCode.internalError), (401, .unauthenticated), (403, .permissionDenied), (404, .unimplemented),
      (429, .unavailable),
      (502, .unavailable), (503, .unavailable), (504, .unavailable), (500, .unknown), (418, .unknown),
    ])
  func inferred(status: Int, code: ConnectCode) {
    #expect(ConnectError(body: ByteBuffer(string: "<html>"), httpStatus: status).code == code)
    let numeric = ConnectError(body: ByteBuffer(string: #"{"code":42,"message":"m"}"#), httpStatus: status)
    #expect(numeric == ConnectError(code, "m"))
  }
}
