mod bearer;
mod ways;
