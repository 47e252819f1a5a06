//! gRPC in, `job` out; protobuf types stop here.
