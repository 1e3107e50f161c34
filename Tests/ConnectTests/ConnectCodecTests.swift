import Connect
import ConnectServer
import NIOCore
import Protos
import SwiftProtobuf
import Testing

@Suite("codecs")
struct ConnectCodecTests {
  private var request: Process_StartRequest {
    .with {
      $0.process.cmd = "/bin/sh"
      $0.process.args = ["-c", "é"]
      $0.process.envs = ["A": "b"]
      $0.stdin = false
    }
  }

  @Test("a message survives encoding and decoding", arguments: ConnectCodec.allCases)
  func roundTrip(codec: ConnectCodec) throws {
    let bytes = try codec.encode(request)
    #expect(try codec.decode(Process_StartRequest.self, from: bytes) == request)
  }

  @Test("an encoded frame is a header and the bytes of the unframed message", arguments: ConnectCodec.allCases)
  func frame(codec: ConnectCodec) throws {
    #expect(try codec.encodeFrame(request) == Envelope(payload: codec.encode(request)).encoded())
    #expect(Array(try codec.encodeFrame(Process_ListRequest()).readableBytesView).prefix(4) == [0, 0, 0, 0])
  }

  @Test("all byte values survive encoding and decoding", arguments: ConnectCodec.allCases)
  func allBytes(codec: ConnectCodec) throws {
    let event = Process_ProcessEvent.with { $0.data.stdout = .init(0...255) }
    #expect(try codec.decode(Process_ProcessEvent.self, from: codec.encode(event)) == event)
  }

  @Test("unknown JSON fields are ignored, and snake_case names are accepted")
  func unknownFields() throws {
    let json = ByteBuffer(
      string: #"{"process":{"pid":7,"future":{"a":[1]}},"signal":"SIGNAL_SIGTERM","process_group":true,"x":null}"#)
    let request = try ConnectCodec.json.decode(Process_SendSignalRequest.self, from: json)
    #expect(request.process.pid == 7)
    #expect(request.signal == .sigterm)
    #expect(request.processGroup)
  }

  @Test(
    "malformed messages are invalid arguments",
    arguments: [
      (ConnectCodec.json, ""), (.json, "{"), (.json, "[]"), (.json, #"{"process":1}"#), (.json, "\u{0}"),
      (.proto, "\u{0A}\u{7F}"),
      (.json, String(repeating: "[", count: 100_000)),
    ])
  func malformed(codec: ConnectCodec, text: String) {
    let error = #expect(throws: ConnectError.self) {
      try codec.decode(Process_SendSignalRequest.self, from: ByteBuffer(string: text))
    }
    #expect(error?.code == .invalidArgument)
  }

  @Test("content types are matched exactly, except for parameters and case")
  func contentTypes() {
    #expect(ConnectCodec(unaryContentType: "application/json") == .json)
    #expect(ConnectCodec(unaryContentType: "Application/JSON; charset=utf-8") == .json)
    #expect(ConnectCodec(unaryContentType: "application/proto") == .proto)
    #expect(ConnectCodec(streamContentType: "application/connect+proto") == .proto)
    #expect(ConnectCodec(streamContentType: "application/json") == nil)
    #expect(ConnectCodec(unaryContentType: "application/connect+json") == nil)
    #expect(ConnectCodec(unaryContentType: "text/plain") == nil)
    #expect(ConnectCodec(unaryContentType: "") == nil)
  }

  @Test("field numbers are those of the E2B contract, and 15 and up for our additions")
  func fieldNumbers() throws {
    let end = Process_ProcessEvent.EndEvent.with {
      $0.exitCode = -1
      $0.status = "signal: killed"
      $0.signal = 9
      $0.timedOut = true
    }
    let bytes = try ConnectCodec.proto.encode(end)
    let expected: [UInt8] =
      [0x08, 0x01]  // exit_code = 1, zigzag of -1
      + [0x1A, 0x0E] + Array("signal: killed".utf8)  // status = 3
      + [0x78, 0x09]  // signal = 15
      + [0x80, 0x01, 0x01]  // timed_out = 16
    #expect(Array(bytes.readableBytesView) == expected)
  }
}
